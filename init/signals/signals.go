// Package signals keeps a first process alive: it catches every signal that would end it. The caller decides what a
// signal does. Read Catch.
package signals

import (
	"os"
	"os/signal"
	"syscall"

	"resinos/init/nullhandler"
)

// Catch takes every signal that a process can take, first thing in a first process: a Go program that has not done so
// dies of TERM, HUP, INT, QUIT and others even as PID 1, because the runtime falls through to exit(2) after raising
// the signal again. SIGCHLD belongs to the reaper and SIGURG to the runtime; neither ends a process.
func Catch() <-chan os.Signal {
	const last = 64 // SIGRTMAX
	var all []os.Signal
	for n := syscall.Signal(1); n <= last; n++ {
		if n != syscall.SIGCHLD && n != syscall.SIGURG {
			all = append(all, n)
		}
	}
	caught := make(chan os.Signal, 64)
	signal.Notify(caught, all...)
	_ = nullhandler.Install() // a kernel that refuses leaves what can be had without it
	return caught
}
