package uevent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLost reports that the kernel had more events than the socket could hold: all devices must be looked at again.
var ErrLost = errors.New("receive uevent: the kernel had to drop events")

const (
	kernelGroup = 1       // multicast group of the kernel's own messages
	queueSize   = 2 << 20 // bytes that the socket holds while a module loads; there is no other queue
	mostMessage = 16 << 10
)

// A Listener receives the kernel's events in their order. It belongs to one goroutine.
type Listener struct {
	file   *os.File
	raw    syscall.RawConn
	buffer []byte
	oob    []byte
}

// Inherit makes a Listener of a uevent socket that the parent has opened: the kernel has queued events since then. The
// descriptor then belongs to the Listener.
func Inherit(fd int) (*Listener, error) {
	unix.CloseOnExec(fd)
	err := errors.Join(unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("inherit uevent socket: %w", err), unix.Close(fd))
	}
	return newListener(fd)
}

// Listen opens the socket; from now on the kernel queues events. It needs the network namespace of the host.
func Listen() (*Listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK,
		unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open uevent socket: %w", err)
	}
	// Without CAP_NET_ADMIN the queue keeps the system's limit; Next reports if it was too small.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, queueSize)
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open uevent socket: %w", err), unix.Close(fd))
	}
	return newListener(fd)
}

func newListener(fd int) (*Listener, error) {
	file := os.NewFile(uintptr(fd), "uevent")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open uevent socket: %w", err), file.Close())
	}
	return &Listener{file: file, raw: raw, buffer: make([]byte, mostMessage),
		oob: make([]byte, unix.CmsgSpace(unix.SizeofUcred))}, nil
}

// Close ends the listener.
func (l *Listener) Close() error { return l.file.Close() }

// Next waits for the next event of the kernel. It skips messages of other senders and messages that are no events. At
// until, unless that is zero, it fails with os.ErrDeadlineExceeded. It can be called again after that and after
// ErrLost.
func (l *Listener) Next(ctx context.Context, until time.Time) (Event, error) {
	if err := l.file.SetReadDeadline(until); err != nil {
		return Event{}, fmt.Errorf("receive uevent: %w", err)
	}
	wake := context.AfterFunc(ctx, func() {
		_ = l.file.SetReadDeadline(time.Unix(1, 0)) // fails only when closed, which also wakes the reader
	})
	defer wake()
	for {
		message, err := l.receive()
		if ctx.Err() != nil {
			return Event{}, context.Cause(ctx)
		}
		if errors.Is(err, unix.ENOBUFS) {
			return Event{}, ErrLost
		}
		if err != nil {
			return Event{}, fmt.Errorf("receive uevent: %w", err)
		}
		if message == nil {
			continue
		}
		if e, err := Parse(message); err == nil {
			return e, nil
		}
	}
}

// receive reads one message; it is nil if it does not come from the kernel.
func (l *Listener) receive() (message []byte, err error) {
	var n, oobn int
	var from unix.Sockaddr
	var flags int
	rawErr := l.raw.Read(func(fd uintptr) bool {
		n, oobn, flags, from, err = unix.Recvmsg(int(fd), l.buffer, l.oob, 0)
		return !errors.Is(err, unix.EAGAIN)
	})
	if rawErr != nil {
		return nil, rawErr
	}
	if err != nil {
		return nil, err
	}
	if flags&unix.MSG_TRUNC != 0 || !fromKernel(from, l.oob[:oobn]) {
		return nil, nil
	}
	return l.buffer[:n], nil
}

// fromKernel checks for the kernel's port and credentials: root in a user namespace of its own can send to this group
// too.
func fromKernel(from unix.Sockaddr, oob []byte) bool {
	if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 || sender.Groups != kernelGroup {
		return false
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return false
	}
	credentials, err := unix.ParseUnixCredentials(&messages[0])
	return err == nil && credentials.Uid == 0 && credentials.Pid == 0
}
