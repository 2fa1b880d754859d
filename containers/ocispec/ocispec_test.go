package ocispec

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"resinos/containers/app"
)

func TestCapabilities(t *testing.T) {
	own := strings.Join(capabilities, " ")
	for _, tt := range []struct{ add, drop, want string }{
		{"", "", own},
		{"NET_RAW", "", own + " CAP_NET_RAW"},
		{"CHOWN", "", strings.TrimPrefix(own, "CAP_CHOWN ") + " CAP_CHOWN"},
		{"", "CHOWN KILL", strings.TrimSuffix(strings.TrimPrefix(own, "CAP_CHOWN "), " CAP_KILL")},
		{"", "ALL", ""},
		{"NET_ADMIN", "ALL", "CAP_NET_ADMIN"},
	} {
		got := strings.Join(Capabilities(strings.Fields(tt.add), strings.Fields(tt.drop)), " ")
		if got != tt.want {
			t.Errorf("add %q, drop %q: %s, want %s", tt.add, tt.drop, got, tt.want)
		}
	}
	all := Capabilities([]string{"ALL"}, []string{"SYS_ADMIN"})
	if slices.Contains(all, "CAP_SYS_ADMIN") || !slices.Contains(all, "CAP_SYS_TIME") {
		t.Errorf("all but SYS_ADMIN: %v", all)
	}
}

// spec is what becomes of c on top of containerd's own specification.
func spec(t *testing.T, c app.Container) (*specs.Spec, error) {
	t.Helper()
	ctx := namespaces.WithNamespace(context.Background(), "test")
	s, err := oci.GenerateSpec(ctx, nil, &containers.Container{ID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, opt := range Options(c) {
		if err := opt(ctx, nil, nil, s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func TestDefaults(t *testing.T) {
	s, err := spec(t, app.Container{})
	if err != nil {
		t.Fatal(err)
	}
	if !s.Process.NoNewPrivileges || s.Linux.Seccomp == nil || len(s.Linux.MaskedPaths) == 0 ||
		*s.Linux.Resources.Pids.Limit != pids || *s.Process.OOMScoreAdj != oomScore || s.Root.Readonly {
		t.Errorf("a container that asks for nothing: %+v %+v", s.Process, s.Linux)
	}
	if !slices.Equal(s.Process.Capabilities.Bounding, capabilities) {
		t.Errorf("capabilities %v", s.Process.Capabilities.Bounding)
	}
}

// TestLockDirs: each container has its directories of update locks in memory, unless it has mounts of its own there.
func TestLockDirs(t *testing.T) {
	for _, test := range []struct {
		mounts []specs.Mount
		want   string
	}{
		{nil, "/tmp/balena /tmp/resin"},
		{[]specs.Mount{{Destination: "/tmp"}}, "/tmp/balena /tmp/resin"},
		{[]specs.Mount{{Destination: "/tmp/balena/"}}, "/tmp/resin"},
		{[]specs.Mount{{Destination: "/tmp", Options: []string{"rbind", "ro"}}}, ""},
		{[]specs.Mount{{Destination: "/tmpx", Options: []string{"rbind", "ro"}}}, "/tmp/balena /tmp/resin"},
	} {
		s := specs.Spec{Mounts: test.mounts}
		memory(&s, app.Container{})
		var got []string
		for _, m := range s.Mounts[len(test.mounts):] {
			got = append(got, m.Destination)
			if m.Type != "tmpfs" || !slices.Contains(m.Options, "size=65536") ||
				!slices.Contains(m.Options, "mode=1777") || !slices.Contains(m.Options, "nr_inodes=16") {
				t.Errorf("%+v", m)
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("with %+v there are %q, want %q", test.mounts, got, test.want)
		}
	}
}

func TestLimits(t *testing.T) {
	s, err := spec(t, app.Container{
		Resources: app.Resources{
			Memory: 64 << 20, CPUs: 0.5, CPUShares: 100, Pids: -1, ShmSize: 1 << 20, BlkioWeight: 50,
		},
		Ulimits: []app.Ulimit{{Name: "nofile", Soft: 10, Hard: -1}}, Sysctls: []string{"net.core.somaxconn=77"},
		Mounts: []app.Mount{{Type: app.Tmpfs, Target: "/t", Options: "exec,size=1m", Mode: 0o1777}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := s.Linux.Resources
	if *r.Memory.Limit != 64<<20 || *r.Memory.Swap != 128<<20 || *r.CPU.Quota != 50_000 || *r.CPU.Shares != 100 ||
		r.Pids != nil || *r.BlockIO.Weight != 50 || s.Linux.Sysctl["net.core.somaxconn"] != "77" {
		t.Errorf("limits %+v %+v %+v", r.Memory, r.CPU, r.Pids)
	}
	want := specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: 10, Hard: 1<<64 - 1}
	if l := s.Process.Rlimits[len(s.Process.Rlimits)-1]; l != want {
		t.Errorf("ulimit %+v", l)
	}
	own := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/t" })
	if got := strings.Join(s.Mounts[own].Options, ","); got != "nosuid,nodev,noexec,mode=1777,exec,size=1m" {
		t.Errorf("tmpfs %s", got)
	}
	shm := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev/shm" })
	if !slices.Contains(s.Mounts[shm].Options, "size=1048576") {
		t.Errorf("/dev/shm %v", s.Mounts[shm].Options)
	}
}

func TestDeviceRule(t *testing.T) {
	for rule, good := range map[string]bool{
		"c 188:* rw": true, "a *:* rwm": true, "b 8:0 r": true,
		"": false, "c 188 rw": false, "d 1:1 r": false, "c -1:1 r": false, "c 1:x r": false, "c 1:1 q": false,
	} {
		if _, err := spec(t, app.Container{DeviceRules: []string{rule}}); (err == nil) != good {
			t.Errorf("%q: %v", rule, err)
		}
	}
}

// TestSeccompArchitectures: programs of 32 bits run, those of x32 do not.
func TestSeccompArchitectures(t *testing.T) {
	s, err := spec(t, app.Container{})
	if err != nil {
		t.Fatal(err)
	}
	of32, x32 := specs.ArchX86, slices.Contains(s.Linux.Seccomp.Architectures, specs.ArchX32)
	if runtime.GOARCH == "arm64" {
		of32 = specs.ArchARM
	}
	if all := s.Linux.Seccomp.Architectures; x32 || !slices.Contains(all, of32) || len(all) < 2 {
		t.Errorf("architectures %v", all)
	}
}
