// Package osctl owns the operator's command: what can be typed, how it is answered, and what is said when it goes wrong.
//
// It asks PID 1 over the control socket and logd over its own, and reads what the kernel tells of cgroups, processes and mounts. The only
// things it changes itself are config.json, the line "masked" of an owner's service file, and the mark that has a partition purged. It
// keeps nothing and needs no configuration. Text is for
// people and may change; what --json prints is stable. Nothing wraps: a line that the terminal has no room for is cut. Bytes of
// strangers are escaped. Read Env first, then commands.
package osctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/init/osctl/screen"
	"resinos/mounts/quota"
	"resinos/services/boottime"
	"resinos/services/control"
	"resinos/services/logquery"
	"resinos/services/pid1"
)

// Env is where the command reads and writes. A zero field stands for the process's own or the device's own.
type Env struct {
	Stdout, Stderr io.Writer
	Control        string // PID 1's socket
	Log            string // logd's socket
	Root           string // above all files that are read and written: /etc, /proc, /sys, ...
}

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitNotUp  = 3 // status: a service that was named is not up
)

// session is one call of the command.
type session struct {
	Env
	screen.Screen
	now     func() time.Duration                                      // since the kernel started
	wall    func() time.Time                                          // of the day
	statfs  func(path string, st *unix.Statfs_t) error                // nil is the kernel's
	observe func(target string) (used, limit quota.Amount, err error) // the same
}

// usage is a mistake of the caller.
type usage struct {
	text, hint string
}

func (u *usage) Error() string { return u.text }

// failure is an error with a hint what to type next.
type failure struct {
	err  error
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// notUp is no failure of the command: what was asked for has been printed, and the exit code tells how it is.
type notUp struct{}

func (notUp) Error() string { return "a service is not up" }

// Main runs one command line, args being what follows osctl. It returns the exit code: 0 done, 1 failed, 2 wrong usage, 3 for the
// status of a service that is not up.
func Main(ctx context.Context, env Env, args []string) int {
	s := &session{Env: env, now: boottime.Now, wall: time.Now}
	if s.Stdout == nil {
		s.Stdout = os.Stdout
	}
	if s.Stderr == nil {
		s.Stderr = os.Stderr
	}
	if s.Control == "" {
		s.Control = control.SocketPath
	}
	if s.Log == "" {
		s.Log = logquery.SocketPath
	}
	if s.Root == "" {
		s.Root = "/"
	}
	s.Screen = screen.LookAt(s.Stdout, s.Stderr)
	return s.main(ctx, args)
}

func (s *session) main(ctx context.Context, args []string) int {
	err := s.dispatch(ctx, args)
	if err == nil {
		return exitDone
	}
	if errors.Is(err, notUp{}) {
		return exitNotUp
	}
	code := exitFailed
	hint := ""
	var wrong *usage
	var failed *failure
	var refused *control.Error
	switch {
	case errors.As(err, &wrong):
		code, hint = exitUsage, wrong.hint
	case errors.As(err, &failed):
		hint = failed.hint
	case errors.As(err, &refused):
		hint = screen.EscapeLines(refused.Hint)
		err = errors.New(screen.EscapeLines(refused.Text))
	}
	if hint == "" {
		hint = "try: osctl help " + args[0]
	}
	fmt.Fprintf(s.Stderr, "osctl: %v\n%s\n", err, hint)
	return code
}

func (s *session) dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return &usage{"a command is missing", overview()}
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		return s.help(args)
	}
	c, ok := find(name)
	if !ok {
		return noCommand(name)
	}
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	err := c.run(ctx, s, flags, args)
	if errors.Is(err, flag.ErrHelp) {
		_, err = io.WriteString(s.Stdout, c.manual())
	}
	return err
}

// pid1 is the client of PID 1.
func (s *session) pid1() pid1.Client { return pid1.Client{Socket: s.Control} }

// silent makes an error of the connection to PID 1 say so.
func silent(err error) error {
	return unreachable(err, "PID 1", "osctl works on a resinOS device only")
}

// unreachable makes an error of a connection say who does not answer.
func unreachable(err error, who, hint string) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &failure{fmt.Errorf("reach %s: %w", who, fs.ErrPermission), "log in as root"}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &failure{fmt.Errorf("%s does not answer: %w", who, err), hint}
	}
	return err
}
