// Package hold keeps descriptors open that other processes use: the sockets that PID 1 keeps for services, and the
// descriptors that a service left with it. It never reads from them. Read File first.
package hold

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// File returns an *os.File for fd that Go's poller does not know, and owns fd afterwards: the file has it, or it is
// closed if File fails. It is closed on exec.
//
// os.NewFile adds a non-blocking descriptor to the poller. For a descriptor that is kept for others this is wrong for
// three reasons: each of their packets would wake PID 1; a file on a file system in user space would be asked whether
// it is ready and may never answer; and making it blocking first would change it for everybody who shares it.
func File(fd int, name string) (*os.File, error) {
	unix.CloseOnExec(fd)
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, fmt.Errorf("hold descriptor %s: %w", name, err) // nothing was opened
	}
	if flags&unix.O_NONBLOCK == 0 {
		return os.NewFile(uintptr(fd), name), nil
	}
	defer unix.Close(fd)
	seat, err := unix.Eventfd(0, unix.EFD_CLOEXEC) // it is blocking, so the poller ignores it
	if err != nil {
		return nil, fmt.Errorf("hold descriptor %s: %w", name, err)
	}
	f := os.NewFile(uintptr(seat), name)
	if err := unix.Dup3(fd, seat, unix.O_CLOEXEC); err != nil {
		f.Close() // it has no descriptor
		return nil, fmt.Errorf("hold descriptor %s: %w", name, err)
	}
	return f, nil
}
