// Package osctl owns the operator's command: what can be typed, how it is answered, and what is said when it goes wrong.
//
// It only asks: PID 1 over the control socket and logd over its own. It changes nothing itself, keeps nothing, and needs
// no configuration. Text is for people and may change; what -json prints is stable. Read Env first, then commands.
package osctl

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/init/boot"
	"resinos/services/control"
	"resinos/services/logquery"
)

// Env is where the command reads and writes. A zero field stands for the process's own or the device's own.
type Env struct {
	Stdout, Stderr io.Writer
	Control        string // PID 1's socket
	Log            string // logd's socket
}

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// session is one call of the command.
type session struct {
	Env
	colour bool
	now    func() time.Duration // since the kernel started
}

// A command is one word that can follow osctl.
type command struct {
	name    string
	args    string // after the name, for the usage line
	about   string
	example string
	run     func(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error
}

func commands() []command {
	return []command{
		{"status", "[-json] [NAME...]", "list the services and how they are", "osctl status\nosctl status -json netd", status},
		{"boot", "[-json]", "show the time line of this boot", "osctl boot", bootLine},
		{"plan", "[-json]", "show what a boot does, step by step, without doing it", "osctl plan", planned},
		logsCommand(),
		{"start", "[-n] NAME...", "start services", "osctl start netd", change("start")},
		{"stop", "[-n] NAME...", "stop services and those that need them", "osctl stop sshd", change("stop")},
		{"restart", "[-n] NAME...", "stop and start services", "osctl restart manager", change("restart")},
		{"kill", "[-n] [-signal NAME] NAME...", "send a signal to the main process of services", "osctl kill -signal HUP netd", kill},
		{"reboot", "[-n]", "stop everything in order and start the device again", "osctl reboot", power("reboot")},
		{"poweroff", "[-n]", "stop everything in order and switch the device off", "osctl poweroff", power("poweroff")},
		{"help", "[COMMAND]", "say how a command is used", "osctl help logs", nil},
	}
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

// Main runs one command line, args being what follows osctl. It returns the exit code: 0 done, 1 failed, 2 wrong usage.
func Main(ctx context.Context, env Env, args []string) int {
	s := &session{Env: env, now: boot.Now}
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
	s.colour = isTerminal(s.Stdout) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s.main(ctx, args)
}

func (s *session) main(ctx context.Context, args []string) int {
	err := s.dispatch(ctx, args)
	if err == nil {
		return exitDone
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
		hint = refused.Hint
		err = errors.New(refused.Text)
	}
	fmt.Fprintf(s.Stderr, "osctl: %v\n", err)
	if hint != "" {
		fmt.Fprintf(s.Stderr, "%s\n", hint)
	}
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
		return &usage{fmt.Sprintf("no command %q", name), "try: osctl help"}
	}
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	err := c.run(ctx, s, flags, args)
	if errors.Is(err, flag.ErrHelp) {
		_, err = io.WriteString(s.Stdout, c.manual())
	}
	return err
}

func (s *session) help(args []string) error {
	if len(args) == 0 {
		_, err := io.WriteString(s.Stdout, overview()+"\n")
		return err
	}
	c, ok := find(args[0])
	if !ok {
		return &usage{fmt.Sprintf("no command %q", args[0]), "try: osctl help"}
	}
	_, err := io.WriteString(s.Stdout, c.manual())
	return err
}

func find(name string) (command, bool) {
	for _, c := range commands() {
		if c.name == name {
			return c, true
		}
	}
	return command{}, false
}

func overview() string {
	var b strings.Builder
	b.WriteString("usage: osctl COMMAND\n\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-9s %s\n", c.name, c.about)
	}
	b.WriteString("\ntry: osctl help COMMAND")
	return b.String()
}

func (c command) manual() string {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: osctl %s %s\n\n%s\n", c.name, c.args, c.about)
	if c.run != nil {
		flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
		var options bytes.Buffer
		flags.SetOutput(&options)
		// Parsing -h runs no command: it only defines the flags and stops.
		_ = c.run(context.Background(), &session{}, flags, []string{"-h"})
		if options.Len() > 0 {
			fmt.Fprintf(&b, "\n%s", options.String())
		}
	}
	fmt.Fprintf(&b, "\nexamples:\n  %s\n", strings.ReplaceAll(c.example, "\n", "\n  "))
	return b.String()
}

// parse parses flags wherever they stand between the other arguments, which it returns.
func parse(flags *flag.FlagSet, args []string) (rest []string, err error) {
	flags.Usage = flags.PrintDefaults
	for {
		if err := flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, &usage{err.Error(), "try: osctl help " + flags.Name()}
		}
		if flags.NArg() == 0 {
			return rest, nil
		}
		if n := len(args) - flags.NArg(); n > 0 && args[n-1] == "--" {
			return append(rest, flags.Args()...), nil
		}
		rest, args = append(rest, flags.Arg(0)), flags.Args()[1:]
	}
}

// call asks PID 1.
func (s *session) call(ctx context.Context, op string, args, result any) error {
	return unreachable(control.Call(ctx, s.Control, op, args, result), "PID 1", "osctl works on a resinOS device only")
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

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
