// Package cli owns what all commands of osctl share: the call with its streams, sockets and root path; flags; usage
// errors and errors with what to type next; and the clients and small files that commands read. It knows no command.
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

// Env holds the streams, sockets and root path of a call. A zero field stands for the process's own or the device's
// own.
type Env struct {
	Stdout, Stderr io.Writer
	Control        string // PID 1's socket
	Log            string // logd's socket
	Root           string // directory above all files that are read and written: /etc, /proc, /sys, ...
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

// Usage is a usage error.
type Usage struct {
	text, Hint string
}

// Misuse returns a usage error, with what to type instead.
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

// NotUp is no failure of the command: the answer has been printed, and the exit code says that something is not up.
type NotUp struct{}

func (NotUp) Error() string { return "a service is not up" }

// Exit is the exit code of a program that the command ran for its caller. osctl exits with the same code and prints
// nothing.
type Exit int

func (e Exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Client is the client of PID 1.
func (s *Session) Client() pid1.Client { return pid1.Client{Socket: s.Control} }

// Silent replaces an error of the connection to PID 1 by one that says that PID 1 does not answer.
func Silent(err error) error {
	return Unreachable(err, "PID 1", "osctl works on a resinOS device only")
}

// Unreachable replaces an error of a connection by one that says who does not answer.
func Unreachable(err error, who, hint string) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return Advise(fmt.Errorf("reach %s: %w", who, fs.ErrPermission), "log in as root")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return Advise(fmt.Errorf("%s does not answer: %w", who, err), hint)
	}
	return err
}

// Parse parses flags anywhere among the other arguments, which it returns.
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

// instead returns what to type after a wrong flag. The flag -n has another meaning in journalctl and top.
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

// Nearest returns the word that was probably meant: one that begins with name, or one that differs by at most two
// letters.
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

// Draw executes the tool that draws the picture of a command (osctl/drawing). The code that draws is not part of osctl,
// because osctl is part of PID 1's binary. Draw returns only if that fails.
func (s *Session) Draw(command string, args ...string) error {
	become := s.Become
	if become == nil {
		become = packed.Run
	}
	err := become("tools", "picture", append([]string{command}, args...), os.Environ())
	return Advise(err, "pictures are drawn on a resinOS device only; try: osctl "+command)
}

// Pick returns the named services, or all.
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

// NoService is the error for a name that no service has. It suggests a similar name.
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

// Read returns the content of a small file, empty if it cannot be read.
func (s *Session) Read(path string) string {
	data, err := ReadBounded(filepath.Join(s.Root, path), 64<<10)
	if err != nil {
		return ""
	}
	return string(data)
}

// PrintJSON prints v as JSON, indented by two blanks.
func (s *Session) PrintJSON(v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	_, err = s.Stdout.Write(append(text, '\n'))
	return err
}

// ReadBounded reads a regular file of at most limit bytes; it opens no FIFO, which could block for ever.
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

// ErrTooLarge is the error of ReadBounded for a larger file.
var ErrTooLarge = errors.New("is larger than a service file may be")
