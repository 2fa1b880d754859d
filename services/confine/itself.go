package confine

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
)

// adopters are the programs, besides the init binary, that begin with Adopt. They are on the read-only root: nobody can
// put a program there that does not.
var adopters = []string{"/usr/sbin/netd"}

// Itself reports whether the program can confine itself with Adopt: the init binary under another name, or one of
// adopters. That saves the launch and its execve.
func (l Launch) Itself(launcher string) bool {
	if !l.adoptable() {
		return false
	}
	if slices.Contains(adopters, l.Command[0]) {
		return true
	}
	one, err := os.Stat(l.Command[0])
	if err != nil {
		return false // the launch reports why
	}
	other, err := os.Stat(launcher)
	return err == nil && os.SameFile(one, other)
}

// adoptable is false for what a running process cannot do to itself: it cannot become another user, and it has entered
// its directory already. It can only drop capabilities that it has: without no-new-privileges a program that it starts
// would get others back. The nice value belongs to a thread.
func (l Launch) adoptable() bool {
	s := l.Confinement
	return !l.identity() && l.Directory == "" && s.Nice == 0 && (!s.Bounded || s.NoNewPrivileges)
}

// Adopt is the first thing that a program of the init binary does: it confines itself if PID 1 has given orders, and
// leaves the environment as a launch would. All of it concerns the whole process, whose threads run already. If the
// orders need a mount namespace, PID 1 started the process in one. The result is 0 or one of the exit statuses that
// ExitText knows; then the reason has been written.
func Adopt() int {
	orders, environ := split(os.Environ())
	if orders == "" {
		return 0
	}
	err := adopt(orders, environ)
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "launch: %v\n", err)
	return codeOf(err)
}

func adopt(orders string, environ []string) error {
	l, err := decode(orders)
	if err != nil {
		return failure{exitOrders, fmt.Errorf("read %s: %w", Variable, err)}
	}
	if !l.adoptable() {
		return failure{exitOrders, fmt.Errorf("read %s: a launch is needed for them", Variable)}
	}
	s := self{Launch: l, already: true}
	for _, step := range []step{
		{exitRlimit, (*self).limit},
		{exitMount, (*self).mounts},
		{exitCapability, (*self).keep},
		{exitPrivileges, (*self).noNewPrivileges},
		{exitSeccomp, (*self).filter},
	} {
		if err := step.do(&s); err != nil {
			return failure{step.code, err}
		}
	}
	os.Clearenv()
	for _, e := range environment(environ, l, os.Getpid()) {
		name, value, _ := strings.Cut(e, "=")
		if err := os.Setenv(name, value); err != nil {
			return failure{exitOrders, err}
		}
	}
	return nil
}

// everywhere makes a system call on every thread; later threads inherit its effect.
func everywhere(call, a, b, c uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(call, a, b, c); errno != 0 {
		return errno
	}
	return nil
}
