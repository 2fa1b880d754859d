// Package clitest calls commands of osctl in tests: on a device that is a directory, with a PID 1 that answers from
// memory, and on any terminal. It owns what that device has, so that all commands show the same one; it never checks an
// answer itself, but compares it with a golden file. Read Place first.
package clitest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/mounts/testenv"
	"resinos/services/control"
	"resinos/services/pid1"
)

// Main runs a whole command line and returns the exit code.
type Main func(ctx context.Context, s *cli.Session, args []string) int

// Commands is a Main that knows only some commands, by name.
func Commands(table map[string]cli.Run) Main {
	return func(ctx context.Context, s *cli.Session, args []string) int {
		run, known := table[args[0]]
		if !known {
			return s.Exit(args[0], errors.New("the test does not have this command"))
		}
		return s.Exit(args[0], run(ctx, s, cli.Flags(args[0]), args[1:]))
	}
}

// Place is where a test calls commands.
type Place struct {
	Main    Main
	Root    string        // of the device; empty: each call has a new Device
	Control string        // the socket of PID 1; where nothing listens, nobody answers
	Log     string        // the socket of logd; empty: nobody answers
	Screen  screen.Screen // the zero Screen is no terminal
	// Uptime of the device; 0: UpAt, at which Services were as they are.
	Uptime time.Duration
}

// UpAt is when the device is looked at, after the start of its kernel.
const UpAt = 93_784 * time.Second

// Do runs one command line and returns the exit code and both outputs.
func (p Place) Do(t *testing.T, args ...string) (code int, out, messages string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if p.Log == "" {
		p.Log = p.Control + ".log"
	}
	up := p.Uptime
	if up == 0 {
		up = UpAt
	}
	s := &cli.Session{
		Env:    cli.Env{Stdout: &stdout, Stderr: &stderr, Control: p.Control, Log: p.Log, Root: p.Root},
		Screen: p.Screen,
		Now:    func() time.Duration { return up },
		Wall:   func() time.Time { return time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC) },
	}
	code = p.Main(t.Context(), s, args)
	return code, stdout.String(), stderr.String()
}

// Call runs one command line and returns all that a person sees of it.
func (p Place) Call(t *testing.T, args ...string) string {
	t.Helper()
	if p.Root == "" {
		p.Root = Device(t)
	}
	code, out, messages := p.Do(t, args...)
	text := fmt.Sprintf("$ osctl %s\n%s--- stderr\n%s--- exit %d\n", strings.Join(args, " "), out, messages, code)
	if p.Control != "" {
		text = strings.ReplaceAll(text, p.Control, "SOCKET")
	}
	return strings.ReplaceAll(text, p.Root, "ROOT")
}

// Golden runs command lines, whose words are between blanks, and compares what they print with a golden file. No line
// of it may be wider than the screen.
func (p Place) Golden(t *testing.T, name string, lines ...string) {
	t.Helper()
	var all strings.Builder
	for _, line := range lines {
		all.WriteString(p.Call(t, strings.Fields(line)...))
	}
	testenv.Golden(t, name+".golden", all.String())
	for line := range strings.Lines(all.String()) {
		bare := strings.TrimSuffix(plain(line), "\n")
		if p.Screen.Columns > 0 && !strings.HasPrefix(line, "$ ") && screen.Width(bare) > p.Screen.Columns {
			t.Errorf("wider than %d columns: %s", p.Screen.Columns, line)
		}
	}
}

// plain is a line without its colours.
func plain(line string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(line, "\x1b[")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		_, line, _ = strings.Cut(after, "m")
	}
}

// PID1 starts a PID 1 that answers from memory, until the test ends, and returns its socket.
func PID1(t *testing.T) (socket string) {
	t.Helper()
	testenv.NeedRoot(t, "a control socket that answers nobody else")
	named := func(state string) control.Handler {
		return func(_ context.Context, raw json.RawMessage) (any, error) {
			var a pid1.Kill
			if err := control.Args(raw, &a); err != nil {
				return nil, err
			}
			if a.Name == "nobody" {
				return nil, &control.Error{Text: `no service "nobody"`, Hint: "try: osctl status"}
			}
			return pid1.ServiceStatus{Name: a.Name, State: state, PID: 5}, nil
		}
	}
	value := func(v any) control.Handler {
		return func(context.Context, json.RawMessage) (any, error) { return v, nil }
	}
	return Serve(t, map[string]control.Handler{
		pid1.OpStatus: value(Services()), pid1.OpShow: value(shown()), pid1.OpRescan: value(rescanned()),
		pid1.OpBoot: value(report()), pid1.OpPlan: value(plan()),
		"start": named("up"), "stop": named("down"), "restart": named("up"), "reload": named("up"),
		pid1.OpKill: named("backoff"), pid1.OpPower: value(nil), pid1.OpReexec: value(nil),
	})
}

// Serve answers on a control socket until the test ends, and returns the socket.
func Serve(t *testing.T, handlers map[string]control.Handler) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "control.sock")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		control.Serve(ctx, socket, handlers, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() { cancel(); <-done })
	AwaitFile(t, socket)
	return socket
}

// AwaitFile returns when there is a file.
func AwaitFile(t *testing.T, path string) {
	t.Helper()
	testenv.WaitFor(t, path+" is there", func() bool { _, err := os.Stat(path); return err == nil })
}
