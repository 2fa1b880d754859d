// Package cli owns what all commands of osctl share: the one call with where it reads and writes, flags, mistakes of
// the caller and errors with what to type next, and the clients and small files that commands ask. It knows no command.
// Read Session first.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/init/osctl/inventory"
	"resinos/init/osctl/screen"
	"resinos/mounts/packed"
	"resinos/mounts/quota"
	"resinos/services/pid1"
	"resinos/services/spell"
)

// Env is where the command reads and writes. A zero field stands for the process's own or the device's own.
type Env struct {
	Stdout, Stderr io.Writer
	Control        string // PID 1's socket
	Log            string // logd's socket
	Root           string // above all files that are read and written: /etc, /proc, /sys, ...
}

// Session is one call of the command.
type Session struct {
	Env
	screen.Screen
	Now     func() time.Duration                                      // since the kernel started
	Wall    func() time.Time                                          // of the day
	Statfs  func(path string, st *unix.Statfs_t) error                // nil is the kernel's
	Observe func(target string) (used, limit quota.Amount, err error) // the same
	Become  func(name, program string, args, environ []string) error  // nil is packed.Run
}

// Usage is a mistake of the caller.
type Usage struct {
	text, Hint string
}

// Misuse is a mistake of the caller, with what to type instead.
func Misuse(text, hint string) error { return &Usage{text, hint} }

func (u *Usage) Error() string { return u.text }

// Failure is an error with a hint what to type next.
type Failure struct {
	err  error
	Hint string
}

// Advise adds to an error what to type next.
func Advise(err error, hint string) error { return &Failure{err, hint} }

func (f *Failure) Error() string { return f.err.Error() }
func (f *Failure) Unwrap() error { return f.err }

// NotUp is no failure of the command: what was asked for has been printed, and the exit code tells how it is.
type NotUp struct{}

func (NotUp) Error() string { return "a service is not up" }

// Exit is the exit code of a program that the command ran for its caller: it is handed on, and nothing is said.
type Exit int

func (e Exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Client is the client of PID 1.
func (s *Session) Client() pid1.Client { return pid1.Client{Socket: s.Control} }

// Silent makes an error of the connection to PID 1 say so.
func Silent(err error) error {
	return Unreachable(err, "PID 1", "osctl works on a resinOS device only")
}

// Unreachable makes an error of a connection say who does not answer.
func Unreachable(err error, who, hint string) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return Advise(fmt.Errorf("reach %s: %w", who, fs.ErrPermission), "log in as root")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return Advise(fmt.Errorf("%s does not answer: %w", who, err), hint)
	}
	return err
}

// Parse parses flags wherever they stand between the other arguments, which it returns.
func Parse(flags *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, Misuse(err.Error(), "try: "+instead(flags, err))
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

// instead is the command to type after a wrong flag. journalctl and top know another -n than ours.
func instead(flags *flag.FlagSet, err error) string {
	for _, name := range []string{"lines", "count"} {
		if flags.Lookup(name) != nil && strings.HasSuffix(err.Error(), "not defined: -n") {
			return "osctl " + flags.Name() + " --" + name + " N"
		}
	}
	return "osctl help " + flags.Name()
}

// Bare parses flags for a command that takes no other argument.
func Bare(flags *flag.FlagSet, args []string) error {
	rest, err := Parse(flags, args)
	if err == nil && len(rest) > 0 {
		return Misuse(fmt.Sprintf("%s takes no argument %q", flags.Name(), rest[0]), "try: osctl "+flags.Name())
	}
	return err
}

// Nearest is the word that was meant: the one that name begins, or the one that it differs from by at most two letters.
func Nearest(name string, words []string) string {
	best, distance := "", 3
	for _, word := range words {
		d := spell.Distance(name, word)
		if len(name) > 1 && strings.HasPrefix(word, name) {
			d = 0
		}
		if d < distance && d < len(word) {
			best, distance = word, d
		}
	}
	return best
}

// Services asks PID 1 for the status of all services.
func (s *Session) Services(ctx context.Context) ([]pid1.ServiceStatus, error) {
	list, err := s.Client().Status(ctx)
	return list, Silent(err)
}

// Draw becomes the tool that draws the picture of a command (osctl/drawing), because PID 1, whose program osctl is,
// has no use for what draws. It returns only when that fails.
func (s *Session) Draw(command string, args ...string) error {
	become := s.Become
	if become == nil {
		become = packed.Run
	}
	err := become("tools", "picture", append([]string{command}, args...), os.Environ())
	return Advise(err, "pictures are drawn on a resinOS device only; try: osctl "+command)
}

// Pick keeps the services that were named, or all.
func Pick(list []pid1.ServiceStatus, names []string) ([]pid1.ServiceStatus, error) {
	if len(names) == 0 {
		return list, nil
	}
	var picked []pid1.ServiceStatus
	for _, name := range names {
		st := inventory.Named(list, name)
		if st == nil {
			return nil, NoService(list, name)
		}
		picked = append(picked, *st)
	}
	return picked, nil
}

// NoService is the error for a name that is no service's; it guesses which one was meant.
func NoService(list []pid1.ServiceStatus, name string) error {
	var names []string
	for i := range list {
		names = append(names, list[i].Name)
	}
	hint := "try: osctl status"
	if near := Nearest(name, names); near != "" {
		hint += " " + screen.Escape(near)
	}
	return Advise(fmt.Errorf("no service %q", name), hint)
}

// Read is the content of a small file; one that cannot be read is empty.
func (s *Session) Read(path string) string {
	data, err := ReadBounded(filepath.Join(s.Root, path), 64<<10)
	if err != nil {
		return ""
	}
	return string(data)
}

// PrintJSON prints v for programs: two blanks of indent, so that people can read it too.
func (s *Session) PrintJSON(v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	_, err = s.Stdout.Write(append(text, '\n'))
	return err
}

// ReadBounded reads a regular file of at most limit bytes; a FIFO would hold us up for ever.
func ReadBounded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: %w", path, fs.ErrInvalid)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading: nothing to lose
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("read %s: %w", path, ErrTooLarge)
	}
	return data, err
}

// ErrTooLarge is what ReadBounded says of a larger file.
var ErrTooLarge = errors.New("is larger than a service file may be")
