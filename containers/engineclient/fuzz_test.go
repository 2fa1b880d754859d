package engineclient

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"resinos/containers/app"
)

// FuzzImageConfig: whatever the configuration of a container image says, its container is made with a command, a
// directory and a PATH, or refused with an error; and it never gets more than an app does.
func FuzzImageConfig(f *testing.F) {
	f.Add([]byte(`{"config":{"Entrypoint":["/entry"],"Cmd":["ignored"],"Env":["B=2","PATH=/x","B=3"],` +
		`"WorkingDir":"/srv","StopSignal":"SIGINT"}}`))
	f.Add([]byte(`{"config":{"Cmd":null,"Entrypoint":[]}}`))
	f.Add([]byte(`{"config":{"Cmd":[""],"Env":["","=","A"],"WorkingDir":"srv"}}`))
	f.Add([]byte(`{"config":null,"rootfs":[]}`))
	f.Add([]byte("null"))
	want := container("hello", "web", app.Always)
	want.Command, want.Network = nil, app.NetworkNone
	c := &Containerd{CgroupRoot: "/resinos/containers"}
	ctx := namespaces.WithNamespace(context.Background(), Namespace)
	f.Fuzz(func(t *testing.T, text []byte) {
		var image v1.Image
		if json.Unmarshal(text, &image) != nil {
			return // as imageConfig refuses it
		}
		image.Config.User = "" // needs the container's files: FuzzFindUser
		spec, err := oci.GenerateSpec(ctx, nil, &record{ID: want.ID()}, c.specOptions(want, image.Config, nil)...)
		if err != nil {
			return
		}
		path := 0
		for _, v := range spec.Process.Env {
			if strings.HasPrefix(v, "PATH=") {
				path++
			}
		}
		if len(spec.Process.Args) == 0 || spec.Process.Cwd == "" || path > 1 || !spec.Process.NoNewPrivileges ||
			spec.Linux.Seccomp == nil {
			t.Errorf("configuration %q: arguments %q in %q, %d times PATH, no new privileges %t", text,
				spec.Process.Args, spec.Process.Cwd, path, spec.Process.NoNewPrivileges)
		}
	})
}

// FuzzFindUser: whatever a container's passwd and group hold, its user is one that the kernel takes, or an error.
func FuzzFindUser(f *testing.F) {
	f.Add("web:x:101:102::/:/bin/sh\n", "web:x:102:\nextra:x:200:web\n", "web")
	f.Add("web:x:-1:4294967295:::\n", "a:x:-1:web\nb:x:4294967295:web\n", "web:b")
	f.Add(":::::::\n", "x\n::::", "7:8")
	f.Add("", "", "")
	root := f.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, passwd, group, who string) {
		for name, text := range map[string]string{"passwd": passwd, "group": group} {
			if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		u, err := findUser(root, who, nil)
		if err != nil {
			return
		}
		const most = 1<<31 - 1
		for _, id := range append(u.AdditionalGids, u.UID, u.GID) {
			if id > most {
				t.Errorf("findUser(%q) of %q and %q = %+v", who, passwd, group, u)
			}
		}
	})
}
