// Package confine confines a child of PID 1, in the child itself, before it becomes a service's program: descriptors,
// limits, mounts, a user, capabilities, a seccomp filter. All of it happens on one locked thread that then calls
// execve, because Linux keeps ids, capabilities, filters and mount namespaces for each thread. It never forks, never
// decides what a service may do (the service's file does), and undoes nothing: a step that fails ends the process. Read
// Launch first, then steps.
package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/spec"
)

// Variable is the environment variable with an encoded Launch. The program does not get it.
const Variable = "RESINOS_LAUNCH"

// maxOrders limits the value of Variable: the kernel accepts no longer string in an environment (MAX_ARG_STRLEN).
const maxOrders = 128<<10 - len(Variable) - 2

// Launch is the orders for one start. The zero value of every field except Command means "unchanged".
type Launch struct {
	Command     []string         // the program, an absolute path, and its arguments
	Directory   string           // the working directory, unless PID 1 has entered it
	User, Group string           // names or numbers
	Groups      []string         // the same, in addition to those from /etc/group
	Confinement spec.Confinement // what the program sees and may do
	Listen      int              // descriptors 3 and on that are LISTEN_FDS
	Names       []string         // LISTEN_FDNAMES, one for each of them
	Watchdog    time.Duration    // WATCHDOG_USEC
}

// Needed reports whether the program needs a launch at all. If not, starting it directly, with its watchdog's time in
// the environment, has the same result.
func (l Launch) Needed() bool {
	s := l.Confinement
	return l.identity() || l.Directory != "" || l.Listen > 0 ||
		s.OwnMounts() || s.Bounded || s.NoNewPrivileges || s.Seccomp != "" || s.Nice != 0 || len(s.Rlimits) > 0
}

func (l Launch) identity() bool { return l.User != "" || l.Group != "" || len(l.Groups) > 0 }

// Encode returns the value of Variable. It fails for orders without a program, and for orders that do not fit into an
// environment.
func (l Launch) Encode() (string, error) {
	if err := l.check(); err != nil {
		return "", fmt.Errorf("encode launch: %w", err)
	}
	text, err := json.Marshal(l)
	if err != nil {
		return "", fmt.Errorf("encode launch: %w", err)
	}
	if len(text) > maxOrders {
		return "", fmt.Errorf("encode launch: %d bytes, the kernel takes %d: shorten the service file's lists",
			len(text), maxOrders)
	}
	return string(text), nil
}

// decode is the reverse of Encode; what it accepts, Encode accepts.
func decode(text string) (Launch, error) {
	in := json.NewDecoder(strings.NewReader(text))
	in.DisallowUnknownFields()
	var l Launch
	if err := in.Decode(&l); err != nil {
		return Launch{}, err
	}
	if in.More() {
		return Launch{}, errors.New("something follows the orders")
	}
	return l, l.check()
}

func (l Launch) check() error {
	switch {
	case len(l.Command) == 0 || !filepath.IsAbs(l.Command[0]):
		return errors.New("command has no absolute path: give one in the service file")
	case l.Directory != "" && !filepath.IsAbs(l.Directory):
		return errors.New("the working directory has no absolute path: give one in the service file")
	case l.Listen < 0 || l.Watchdog < 0:
		return errors.New("a negative count of descriptors or watchdog time")
	}
	return nil
}

// step is one thing that a process does to itself, and the exit status for its failure.
type step struct {
	code int
	do   func(*self) error
}

// steps are the steps between the orders and the program, in the order in which rights are given up; exits.go explains
// the exit statuses.
func steps() []step {
	return []step{
		{exitDirectory, (*self).enter}, // with the rights and the mounts with which PID 1 would enter it
		{exitUser, (*self).lookup},     // before the mounts change: /etc may be hidden
		{exitRlimit, (*self).limit},    // raising needs CAP_SYS_RESOURCE
		{exitNice, (*self).nice},       // CAP_SYS_NICE
		{exitMount, (*self).mounts},    // needs CAP_SYS_ADMIN, and root to look paths up
		{exitBound, (*self).bound},     // needs CAP_SETPCAP, which the next step gives up
		{exitUser, (*self).become},
		{exitCapability, (*self).keep},
		{exitPrivileges, (*self).noNewPrivileges},
		{exitSeccomp, (*self).filter}, // last: it forbids most of the above
	}
}

// self is the process that is about to become the program.
type self struct {
	Launch
	already bool     // this is the program already: the steps concern all threads
	environ []string // of the program
	account account  // of User
	groups  []uint32 // supplementary
}

// Main is the applet. On success the process has become the program, and Main does not return. Otherwise it has written
// the reason to descriptor 2 and returns one of the exit statuses that ExitText knows.
func Main(environ []string) int {
	runtime.LockOSThread() // never unlocked: what this thread does to itself is for the program only
	err := launch(environ)
	fmt.Fprintf(os.Stderr, "launch: %v\n", err)
	return codeOf(err)
}

func codeOf(err error) int {
	var f failure
	if errors.As(err, &f) {
		return f.code
	}
	return exitOrders
}

// launch returns only when it has failed.
func launch(environ []string) error {
	orders, environ := split(environ)
	l, err := decode(orders)
	if err != nil {
		return failure{exitOrders, fmt.Errorf("read %s: %w", Variable, err)}
	}
	s := self{Launch: l, environ: environment(environ, l, os.Getpid())}
	for _, step := range steps() {
		if err := step.do(&s); err != nil {
			return failure{step.code, err}
		}
	}
	// syscall.Exec also restores the descriptor limit, which the Go runtime has raised for itself.
	err = syscall.Exec(s.Command[0], s.Command, s.environ)
	return failure{exitExec, fmt.Errorf("execute %s: %w%s", s.Command[0], err, execHint(err))}
}

// enter changes to the working directory. PID 1 leaves that to this process if the path may hang.
func (s *self) enter() error {
	if s.Directory == "" {
		return nil
	}
	if err := unix.Chdir(s.Directory); err != nil {
		return fmt.Errorf("enter working directory %s: %w", s.Directory, err)
	}
	return nil
}

// execHint returns the common reasons why an existing program cannot be started, for a person who sees only the
// service's file.
func execHint(err error) string {
	switch {
	case errors.Is(err, unix.ENOENT):
		return ": look for the program or its interpreter, and at hidden-paths and private-tmp"
	case errors.Is(err, unix.EACCES):
		return ": the service's user must be able to execute it and to enter its directory"
	case errors.Is(err, unix.EPERM):
		return ": a set-capability file needs capabilities that the service file leaves out, or the seccomp profile " +
			"forbids execve"
	}
	return ""
}

// failure is an error with the exit status of the step that failed.
type failure struct {
	code int
	err  error
}

func (f failure) Error() string { return f.err.Error() }
func (f failure) Unwrap() error { return f.err }
