package demand

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"resinos/services/hold"
	"resinos/services/peercred"
)

// ErrNone reports that no connection waits.
var ErrNone = errors.New("no connection waits")

// gone are the errors of accept(2) that concern one connection and not the listener.
var gone = []error{
	unix.EINTR, unix.ECONNABORTED, unix.ENETDOWN, unix.EPROTO, unix.ENOPROTOOPT, unix.EHOSTDOWN,
	unix.ENONET, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EPERM,
}

// Accept accepts one waiting connection of a listening socket, and never waits. The connection is closed on exec, is
// blocking, and belongs to the caller; peer is "10.0.0.1:1234", or "uid 0 pid 77" for a Unix socket. The error is
// ErrNone if none waits.
func Accept(f *os.File) (conn *os.File, peer string, err error) {
	fd := -1
	err = control(f, func(listener int) (err error) {
		// At each call: another process that shares the listener can change it, and PID 1 must not hang here.
		if err := unix.SetNonblock(listener, true); err != nil {
			return err
		}
		fd, peer, err = accept(listener)
		return err
	})
	if errors.Is(err, unix.EAGAIN) {
		return nil, "", ErrNone
	}
	if err != nil {
		return nil, "", fmt.Errorf("accept on %s: %w", f.Name(), err)
	}
	conn, err = hold.File(fd, peer)
	return conn, peer, err
}

func accept(listener int) (fd int, peer string, err error) {
	var from unix.Sockaddr
	for range backlog {
		fd, from, err = unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err == nil {
			return fd, peerText(fd, from), nil
		}
		if !slices.Contains(gone, err) {
			return -1, "", err
		}
	}
	return -1, "", err
}

func peerText(fd int, from unix.Sockaddr) string {
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port)).String()
	}
	cred, err := peercred.OfFD(fd)
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("uid %d pid %d", cred.Uid, cred.Pid)
}
