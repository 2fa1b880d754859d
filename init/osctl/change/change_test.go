package change

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/init/osctl/screen"
	"resinos/mounts/testenv"
	"resinos/services/control"
	"resinos/services/pid1"
)

func commands() clitest.Main {
	return clitest.Commands(map[string]cli.Run{
		"start": Service(pid1.Start), "stop": Service(pid1.Stop), "restart": Service(pid1.Restart),
		"reload": Service(pid1.Reload), "kill": Kill,
		"reboot": Power(pid1.Reboot), "poweroff": Power(pid1.PowerOff), "re-exec": Reexec,
	})
}

func TestGolden(t *testing.T) {
	clitest.Place{Main: commands(), Control: clitest.PID1(t)}.Golden(t, "change",
		"start netd", "stop netd sshd", "restart logd", "restart -n logd", "reload netd",
		"kill netd", "kill netd -n -signal HUP", "kill -n --all netd", "start nobody", "start",
		"reboot -n", "reboot -n --force", "poweroff", "poweroff --force", "reboot now", "re-exec -n")
}

// TestRemoved: a service whose file was removed while it stops.
func TestRemoved(t *testing.T) {
	st := pid1.ServiceStatus{Name: "shop", State: pid1.Removed, Removed: true}
	if got := (&session{&cli.Session{}}).outcome(st); got != "shop is removed" {
		t.Errorf("outcome = %q", got)
	}
}

// PID 1 answers, goes, and another life listens in its place.
func TestReexecWaitsForTheNextLife(t *testing.T) {
	testenv.NeedRoot(t, "a control socket that answers nobody else")
	path := filepath.Join(t.TempDir(), "control.sock")
	status := func(context.Context, json.RawMessage) (any, error) { return clitest.Services(), nil }
	var lives sync.WaitGroup
	defer lives.Wait()
	next, stop := context.WithCancel(t.Context())
	defer stop()
	first, end := context.WithCancel(t.Context())
	lives.Go(func() {
		control.Serve(first, path, map[string]control.Handler{"status": status,
			"re-exec": func(context.Context, json.RawMessage) (any, error) {
				time.AfterFunc(20*time.Millisecond, end)
				return nil, nil
			}}, slog.New(slog.DiscardHandler))
		// It may return just before its socket is removed.
		if err := testenv.Await("the socket is removed", func() bool {
			_,
				err := os.Stat(path)
			return err != nil
		}); err != nil {
			t.Error(err)
		}
		control.Serve(next, path, map[string]control.Handler{"status": status}, slog.New(slog.DiscardHandler))
	})
	clitest.AwaitFile(t, path)
	got := clitest.Place{Main: commands(), Control: path}.Call(t, "re-exec")
	if !strings.Contains(got, "PID 1 was re-executed in ") || first.Err() == nil {
		t.Error(got)
	}
}

// An operator who does not want to wait any more leaves PID 1 to its work.
func TestInterruptedWait(t *testing.T) {
	testenv.NeedRoot(t, "a control socket that answers nobody else")
	path := filepath.Join(t.TempDir(), "control.sock")
	ctx, cancel := context.WithCancel(t.Context())
	var server sync.WaitGroup
	defer server.Wait()
	defer cancel()
	asked := make(chan struct{})
	server.Go(func() {
		control.Serve(ctx, path, map[string]control.Handler{"stop": func(ctx context.Context, _ json.RawMessage) (any,
			error) {
			close(asked)
			<-ctx.Done()
			return nil, ctx.Err()
		}}, slog.New(slog.DiscardHandler))
	})
	clitest.AwaitFile(t, path)
	impatient, leave := context.WithCancel(t.Context())
	server.Go(func() { <-asked; leave() })
	var out, talk bytes.Buffer
	s := &cli.Session{
		Env: cli.Env{Stdout: &out, Stderr: &talk, Control: path}, Screen: screen.Screen{Progress: true},
	}
	code := commands()(impatient, s, []string{"stop", "netd"})
	got := talk.String()
	if code != cli.ExitFailed || !strings.HasPrefix(got, "stopping netd ...") ||
		!strings.Contains(got, "continues with stop netd\ntry: osctl status netd\n") {
		t.Errorf("exit %d: %q", code, got)
	}
}
