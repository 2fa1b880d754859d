package demand

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"resinos/services/spec"
)

const (
	ueventFamily = "kobject-uevent"
	kernelGroup  = 1       // multicast group of the kernel's own messages
	ueventQueue  = 2 << 20 // bytes; the events of a boot, and of a hub full of devices while the service starts
)

// bindUevents creates a netlink socket on which the kernel reports devices. The reader learns the sender's credentials
// (SO_PASSCRED): root in a user namespace can send to this group too. When the queue is full the kernel drops messages,
// and the reader gets ENOBUFS.
func bindUevents(s spec.Socket, n network) (int, error) {
	if s.Address != ueventFamily {
		return -1, errors.New("no such family")
	}
	fd, err := unix.Socket(unix.AF_NETLINK, n.kind|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	// else the queue has the system's size
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, ueventQueue)
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup})
	}
	if err != nil {
		unix.Close(fd) // the first error says more
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// isSocketFile reports whether f is a socket; a terminal or an input device is not.
func isSocketFile(f *os.File) bool {
	return control(f, func(fd int) error {
		_, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		return err
	}) == nil
}
