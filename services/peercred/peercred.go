// Package peercred asks the kernel for the process at the other end of a Unix socket.
//
// The answer is from the moment when the other end connected, whatever that process has become since. It needs no
// cooperation of the peer and cannot be forged.
package peercred

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// noUser is a user id that no process has (setuid(2)). It is returned with an error, so that a caller who overlooks the
// error does not take the peer for root.
const noUser = 1<<32 - 1

func unknown() unix.Ucred { return unix.Ucred{Uid: noUser, Gid: noUser} }

// Of returns process, user and group of the peer of a connection, such as a *net.UnixConn (SO_PEERCRED, unix(7)). The
// process is 0 if it is not in our process namespace.
func Of(conn syscall.Conn) (unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return unknown(), fmt.Errorf("read peer of socket: %w", err)
	}
	cred := unknown()
	var fault error
	err = raw.Control(func(fd uintptr) { cred, fault = OfFD(int(fd)) })
	return cred, errors.Join(err, fault)
}

// OfFD is Of for a descriptor.
func OfFD(fd int) (unix.Ucred, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return unknown(), fmt.Errorf("read peer of socket: %w", err)
	}
	return *cred, nil
}
