// Package nullhandler gives PID 1 a handler for the signals that Go's runtime leaves to C libraries: 32, 33 and 34, for
// which it installs none, whatever signal.Notify is told. Linux drops a signal without a handler that is sent to PID 1,
// but only if the main thread does not block it at that moment; Go blocks all signals while it starts a thread or a
// process, and then the signal is fatal (kernel/signal.c, sig_ignored and complete_signal). The death of PID 1 is a
// kernel panic.
//
// It never touches another signal. Read Install.
package nullhandler

import (
	"encoding/binary"
	"syscall"
	"unsafe"
)

// Signals are those that Go installs no handler for.
var Signals = [...]syscall.Signal{32, 33, 34}

// returns is the address of a function that only returns (nullhandler_GOARCH.s). Go's own handler cannot be used: it
// ends the process on a signal that it does not know to be handled. Ignoring the signals would do for PID 1, but is
// inherited by what it starts.
var returns uintptr

// Install makes the Signals do nothing to this process. What it starts has the default again. It must come after
// signal.Notify has installed Go's handler for SIGHUP, whose stack and way back it takes over.
func Install() error {
	// struct sigaction of the kernel begins with the handler; flags, restorer and mask follow: 32 bytes on amd64 and
	// arm64.
	var action [64]byte
	const maskSize = 8
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(syscall.SIGHUP), 0,
		uintptr(unsafe.Pointer(&action)), maskSize, 0, 0); errno != 0 {
		return errno
	}
	binary.NativeEndian.PutUint64(action[:], uint64(returns))
	for _, s := range Signals {
		if _, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0,
			maskSize, 0, 0); errno != 0 {
			return errno
		}
	}
	return nil
}
