// Package linkwatch receives the kernel's messages about links and addresses: it reports which link has changed, and
// nothing else. Read first: Watcher.
package linkwatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Change reports that a link or its addresses changed, or that so much changed that some messages were lost.
type Change struct {
	Index int
	All   bool
}

// Watcher turns the kernel's messages into changes. It reads only the index of the link from them; the daemon then
// reads the current state, so a late or repeated message does no harm.
type Watcher struct {
	file    *os.File
	Changes chan Change // closed by read
	stop    chan struct{}
}

// Watch subscribes to links and addresses.
func Watch() (*Watcher, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	groups := uint32(1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1))
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe to links: %w", err), unix.Close(fd))
	}
	w := &Watcher{file: os.NewFile(uintptr(fd), "netlink"), Changes: make(chan Change), stop: make(chan struct{})}
	go w.read()
	return w, nil
}

// Close ends the reader and waits for it.
func (w *Watcher) Close() {
	close(w.stop)
	w.file.Close() // only the reader could notice, and it ends
	for range w.Changes {
	}
}

func (w *Watcher) read() {
	defer close(w.Changes)
	buf := make([]byte, 32<<10) // the kernel's own size for a message
	for {
		n, err := w.file.Read(buf)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			if !w.tell(Change{All: true}) {
				return
			}
		case err != nil:
			return
		}
		for _, index := range indexes(buf[:n]) {
			if !w.tell(Change{Index: index}) {
				return
			}
		}
	}
}

func (w *Watcher) tell(c Change) bool {
	select {
	case w.Changes <- c:
		return true
	case <-w.stop:
		return false
	}
}

// indexes returns the links in a datagram of messages, each once. ifinfomsg and ifaddrmsg both hold the index in their
// second four bytes.
func indexes(p []byte) []int {
	var out []int
	for len(p) >= unix.SizeofNlMsghdr+8 {
		length := int(binary.NativeEndian.Uint32(p))
		if length < unix.SizeofNlMsghdr+8 || length > len(p) {
			return out
		}
		switch binary.NativeEndian.Uint16(p[4:]) {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_NEWADDR, unix.RTM_DELADDR:
			index := int(int32(binary.NativeEndian.Uint32(p[unix.SizeofNlMsghdr+4:])))
			if index > 0 && (len(out) == 0 || out[len(out)-1] != index) {
				out = append(out, index)
			}
		}
		p = p[min((length+3)&^3, len(p)):]
	}
	return out
}
