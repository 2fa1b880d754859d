package logd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A poller waits for many file descriptors of the collector. It is an epoll of its own inside the Go runtime's, so that
// waiting holds no thread and needs no ticker. It belongs to one goroutine.
type poller struct {
	file   *os.File
	conn   syscall.RawConn
	events []unix.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	// os.NewFile gives only non-blocking files to the runtime's poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll"), events: make([]unix.EpollEvent, 64)}
	if p.conn, err = p.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("create epoll: %w", err), p.file.Close())
	}
	return p, nil
}

func (p *poller) close() { p.file.Close() }

// watch adds fd, or changes whether it is polled.
func (p *poller) watch(fd int, on bool) error {
	event := unix.EpollEvent{Fd: int32(fd)}
	if on {
		event.Events = unix.EPOLLIN
	}
	err := p.control(unix.EPOLL_CTL_ADD, fd, &event)
	if errors.Is(err, unix.EEXIST) {
		err = p.control(unix.EPOLL_CTL_MOD, fd, &event)
	}
	if err != nil {
		return fmt.Errorf("watch file: %w", err)
	}
	return nil
}

// forget must come before fd is closed: another process may hold the same open file.
func (p *poller) forget(fd int) {
	_ = p.control(unix.EPOLL_CTL_DEL, fd, nil) // it fails only for what is not watched
}

func (p *poller) control(op, fd int, event *unix.EpollEvent) (err error) {
	failed := p.conn.Control(func(ep uintptr) { err = unix.EpollCtl(int(ep), op, fd, event) })
	return errors.Join(failed, err)
}

// wait returns the readable descriptors, beginning with the one that was served longest ago. It returns none when the
// time is over; a negative time waits for ever.
func (p *poller) wait(ctx context.Context, wait time.Duration) ([]unix.EpollEvent, error) {
	var until time.Time
	if wait >= 0 {
		until = time.Now().Add(wait)
	}
	if err := p.file.SetReadDeadline(until); err != nil {
		return nil, fmt.Errorf("wait for input: %w", err)
	}
	// Run ends the wait through interrupt, which comes after ctx is done, so that either it or this check is in time.
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var n int
	var err error
	failed := p.conn.Read(func(ep uintptr) bool {
		n, err = unix.EpollWait(int(ep), p.events, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(failed, os.ErrDeadlineExceeded):
		return nil, nil
	case failed != nil || err != nil:
		return nil, fmt.Errorf("wait for input: %w", errors.Join(failed, err))
	}
	return p.events[:n], nil
}

// interrupt makes a waiting wait return. Any goroutine may call it.
func (p *poller) interrupt() {
	_ = p.file.SetReadDeadline(time.Unix(1, 0)) // fails only when the poller is closed
}
