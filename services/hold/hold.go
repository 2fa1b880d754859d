// Package hold owns the way PID 1 holds a descriptor that somebody else uses: sockets it keeps for
// services, descriptors a service left with it. It never looks at what is behind them. Read File
// first.
package hold

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// File makes an *os.File of fd that Go's poller does not know, and owns fd afterwards: it is the
// file's, or closed if File fails. It is closed on exec.
//
// os.NewFile hands a descriptor that does not block to the poller. For one that is held for
// others this is wrong three ways: each of their packets would wake PID 1, a file on a file system
// in user space would be asked whether it is ready and may never answer, and making it block first
// would change it for whoever shares it.
func File(fd int, name string) (*os.File, error) {
	unix.CloseOnExec(fd)
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, fmt.Errorf("hold descriptor %s: %w", name, err) // nothing is open there
	}
	if flags&unix.O_NONBLOCK == 0 {
		return os.NewFile(uintptr(fd), name), nil
	}
	defer unix.Close(fd)
	seat, err := unix.Eventfd(0, unix.EFD_CLOEXEC) // blocks, so that the poller leaves it alone
	if err != nil {
		return nil, fmt.Errorf("hold descriptor %s: %w", name, err)
	}
	f := os.NewFile(uintptr(seat), name)
	if err := unix.Dup3(fd, seat, unix.O_CLOEXEC); err != nil {
		f.Close() // an empty seat
		return nil, fmt.Errorf("hold descriptor %s: %w", name, err)
	}
	return f, nil
}
