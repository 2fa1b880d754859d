package command

import (
	"log/slog"
	"os"
	"slices"
	"testing"

	"resinos/services/spec"
)

// TestMayHang: what is of the image is executed by PID 1 itself; all else the launcher looks at, which may wait for it.
func TestMayHang(t *testing.T) {
	for path, want := range map[string]bool{
		"/": false, "/usr/sbin/netd": false, "/bin/sh": false, "/proc/self/exe": false, "/usr/../mnt/x": true,
		"/usrlocal/x": true, "/mnt/data/apps/x": true, "/opt/x": true, "/usr": false,
	} {
		if got := mayHang(path); got != want {
			t.Errorf("mayHang(%q) = %t, want %t", path, got, want)
		}
	}
}

// TestCommand: a program of the image is executed straight away, one elsewhere by the launcher; the service's own
// variables replace the standing ones.
func TestCommand(t *testing.T) {
	m := &Maker{Launcher: "/usr/sbin/init", NotifyPath: "/run/notify", Log: slog.New(slog.DiscardHandler)}
	sp := &spec.Spec{Name: "s", WorkingDirectory: "/", Environment: map[string]string{"HOME": "/h", "A": "1"}}
	for argv0, want := range map[string]string{"/usr/bin/x": "/usr/bin/x", "/mnt/data/x": "/usr/sbin/init"} {
		c, closeOurs, err := m.Command(sp, []string{argv0}, Inherited{Notify: true})
		if err != nil {
			t.Fatal(err)
		}
		closeOurs()
		if c.Path != want {
			t.Errorf("%s is executed as %s, want %s", argv0, c.Path, want)
		}
		wantEnv := []string{"PATH=/usr/sbin:/usr/bin", "NOTIFY_SOCKET=/run/notify", "A=1", "HOME=/h"}
		if len(c.Env) < 4 || !slices.Equal(c.Env[:4], wantEnv) {
			t.Errorf("%s has the environment %q, want %q", argv0, c.Env, wantEnv)
		}
	}
}

// TestConnection: the process of a connection has it as standard input too; that of a listening service has not.
func TestConnection(t *testing.T) {
	m := &Maker{Launcher: "/usr/sbin/init", Log: slog.New(slog.DiscardHandler)}
	for _, each := range []bool{true, false} {
		sp := &spec.Spec{Name: "s", WorkingDirectory: "/", Listen: spec.Listen{Each: each}}
		c, closeOurs, err := m.Command(sp, []string{"/usr/bin/x"}, Inherited{Files: []*os.File{os.Stdin}})
		if err != nil {
			t.Fatal(err)
		}
		closeOurs()
		if (c.Stdin == os.Stdin) != each || len(c.Extra) != 1 {
			t.Errorf("listen-each %t: standard input %v, further descriptors %v", each, c.Stdin, c.Extra)
		}
	}
}
