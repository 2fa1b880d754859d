package proc

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// faults are the signals that a thread causes itself. Go turns them into panics.
var faults = []syscall.Signal{syscall.SIGILL, syscall.SIGTRAP, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGSEGV}

// Deaf calls do in a thread that takes no signals of the process. What may wait for a file system that hangs belongs
// there: the kernel gives SIGCHLD to the thread that started the child, and other signals to any thread, and one that
// waits in the kernel keeps what it got. The Reaper would hear of a death only at its next sweep. do must start no
// process, which would be deaf too.
func Deaf(do func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var most, before unix.Sigset_t
	for i := range most.Val {
		most.Val[i]-- // all bits
	}
	for _, s := range faults {
		bit := int(s) - 1
		most.Val[bit/64] &^= 1 << (bit % 64)
	}
	if unix.PthreadSigmask(unix.SIG_SETMASK, &most, &before) == nil {
		defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	}
	do()
}
