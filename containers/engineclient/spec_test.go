package engineclient

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"resinos/containers/app"
	"resinos/mounts/testenv"
)

// TestSpec holds the hardened spec against a golden file, without the long list of system calls.
func TestSpec(t *testing.T) {
	want := container("hello", "web", app.Always)
	want.Command, want.Environment, want.Network = []string{"serve"}, []string{"A=1"}, app.NetworkNone
	c := &Containerd{CgroupRoot: "/resinos/containers"}
	image := v1.ImageConfig{Entrypoint: []string{"/entry"}, Cmd: []string{"ignored"}, Env: []string{"B=2"},
		WorkingDir: "/srv"}
	ctx := namespaces.WithNamespace(context.Background(), Namespace)
	spec, err := oci.GenerateSpec(ctx, nil, &record{ID: want.ID()}, c.specOptions(want, image, nil)...)
	if err != nil {
		t.Fatal(err)
	}
	if spec.Linux.Seccomp == nil || len(spec.Linux.Seccomp.Syscalls) == 0 {
		t.Fatal("no seccomp profile")
	}
	spec.Linux.Seccomp = nil
	// one each processor of this host
	spec.Linux.MaskedPaths = slices.DeleteFunc(spec.Linux.MaskedPaths,
		func(p string) bool { return strings.HasPrefix(p, "/sys/devices/system/cpu/") })
	for _, bad := range []string{"CAP_NET_RAW", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETFCAP"} {
		if slices.Contains(spec.Process.Capabilities.Bounding, bad) ||
			slices.Contains(spec.Process.Capabilities.Permitted, bad) {
			t.Errorf("%s is left", bad)
		}
	}
	text, err := json.MarshalIndent(spec, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	testenv.Golden(t, "spec.golden", string(text)+"\n")
}

func TestArguments(t *testing.T) {
	image := v1.ImageConfig{Entrypoint: []string{"e"}, Cmd: []string{"c"}}
	for _, x := range []struct {
		entrypoint, command, want []string
	}{
		{nil, nil, []string{"e", "c"}},
		{nil, []string{"x"}, []string{"e", "x"}},
		{nil, []string{}, []string{"e"}},
		{[]string{"y"}, nil, []string{"y"}},
		{[]string{"y"}, []string{"x"}, []string{"y", "x"}},
		{[]string{}, []string{"x"}, []string{"x"}},
		{[]string{}, nil, nil},
	} {
		got, err := arguments(app.Container{Entrypoint: x.entrypoint, Command: x.command}, image)
		if !slices.Equal(got, x.want) || (err == nil) != (x.want != nil) {
			t.Errorf("arguments(%q, %q) = %q, %v, want %q", x.entrypoint, x.command, got, err, x.want)
		}
	}
}

func TestFindUser(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"passwd": "web:x:101:102::/:/bin/sh\n",
		"group": "web:x:102:\nextra:x:200:web\n"} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"web": "101:102 [102 200]", "7": "7:0 [0]", "7:extra": "7:200 [200]", "nobody-here": "", "web:none": "",
	} {
		u, err := findUser(root, name, nil)
		got := ""
		if err == nil {
			got = fmt.Sprintf("%d:%d %d", u.UID, u.GID, u.AdditionalGids)
		}
		if got != want {
			t.Errorf("findUser(%q) = %q, %v, want %q", name, got, err, want)
		}
	}
	if err := os.Remove(filepath.Join(root, "etc", "passwd")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(root, "etc", "passwd")); err != nil {
		t.Fatal(err)
	}
	if _, err := findUser(root, "web", nil); err == nil {
		t.Error("a link out of the root file system was followed")
	}
}
