package confine

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Itself reports whether the program is the launcher, the init binary, under another name, and can put all of this on by itself, with
// Adopt. That saves the launch and its execve.
func (l Launch) Itself(launcher string) bool {
	if !l.adoptable() {
		return false
	}
	one, err := os.Stat(l.Command[0])
	if err != nil {
		return false // the launch tells why
	}
	other, err := os.Stat(launcher)
	return err == nil && os.SameFile(one, other)
}

// adoptable is false for what a running process cannot do to itself. It cannot become another user, it has been entered into
// its directory, and of its capabilities it bounds
// only what it has: without no-new-privileges a program that it starts would get others back. The nice value is a thread's own.
func (l Launch) adoptable() bool {
	s := l.Confinement
	return !l.identity() && l.Directory == "" && l.ReadyTo == 0 && s.Nice == 0 && (!s.Bounded || s.NoNewPrivileges)
}

// Adopt is what a program of the init binary does first: it puts its own confinement on, if PID 1 has given orders for one, and
// leaves the environment as a launch would. All of it concerns the whole process, whose threads run already. If the orders name a mount
// namespace, the process was born in one. The result is 0 or one of the exit codes that ExitText knows; then it has said why.
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

// everywhere makes a system call on every thread there is; those to come inherit what it does.
func everywhere(call, a, b, c uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(call, a, b, c); errno != 0 {
		return errno
	}
	return nil
}
