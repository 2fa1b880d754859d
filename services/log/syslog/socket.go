// Package syslog owns /dev/log, the datagram socket that syslog(3) of every C library writes to: it creates the socket,
// takes messages from it one by one, and parses them.
//
// A message is read first and removed later, so that its reader may be killed in between without losing it; its Stamp
// shows the next reader whether the one before has written it to the log. The package never writes a log and never
// answers. Read Socket first.
package syslog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Path is where programs expect the socket.
const Path = "/dev/log"

// MaxText is what is kept of a datagram. Longer ones are cut: a C library's are at most 8 KiB.
const MaxText = 16 << 10

// A Socket is the receiving end. It belongs to one goroutine.
type Socket struct {
	fd  int
	buf []byte
	oob []byte
}

// A Datagram is one message as the kernel hands it over. Text is valid until the next call of Peek.
type Datagram struct {
	Text []byte
	Cut  bool // Text is not all of it
	PID  int  // of the sender, 0 if the kernel did not note it
	// Stamp is the datagram's identity: the time the kernel gave it when it was sent or first looked at, which stays,
	// and in the last bits a checksum of its content, in case a clock is so coarse that two get the same time.
	Stamp int64
}

// Listen makes the socket at path, in place of what lies there, and lets everybody write to it.
func Listen(path string) (*Socket, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	if err == nil {
		err = os.Chmod(path, 0o666)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return Adopt(fd)
}

// Adopt takes over a bound socket that somebody else has made; it is closed if that fails.
func Adopt(fd int) (*Socket, error) {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("adopt syslog socket: %w", err)
	}
	unix.CloseOnExec(fd)
	return &Socket{fd: fd, buf: make([]byte, MaxText), oob: make([]byte, 128)}, nil
}

// FD is the descriptor, for waiting until it is readable.
func (s *Socket) FD() int { return s.fd }

// Close lets go of the socket.
func (s *Socket) Close() error { return unix.Close(s.fd) }

// Peek returns the oldest datagram and leaves it where it is. Without one it returns an error that wraps unix.EAGAIN.
func (s *Socket) Peek() (Datagram, error) {
	for {
		n, oobn, flags, _, err := unix.Recvmsg(s.fd, s.buf, s.oob,
			unix.MSG_PEEK|unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return Datagram{}, fmt.Errorf("read syslog socket: %w", err)
		}
		d := Datagram{Text: s.buf[:n], Cut: flags&unix.MSG_TRUNC != 0}
		d.control(s.oob[:oobn])
		d.Stamp += int64(crc32.ChecksumIEEE(d.Text) & 0xffff)
		return d, nil
	}
}

// Drop takes the oldest datagram away.
func (s *Socket) Drop() error {
	for {
		_, _, err := unix.Recvfrom(s.fd, s.buf[:0], unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read syslog socket: %w", err)
		}
		return nil
	}
}

// control reads who sent the datagram and when. Descriptors that a stranger passes along are closed.
func (d *Datagram) control(oob []byte) {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for _, m := range list {
		switch {
		case m.Header.Level != unix.SOL_SOCKET:
		case m.Header.Type == unix.SCM_CREDENTIALS:
			if cred, err := unix.ParseUnixCredentials(&m); err == nil {
				d.PID = int(cred.Pid)
			}
		case m.Header.Type == unix.SCM_RIGHTS:
			fds, _ := unix.ParseUnixRights(&m) // none if it does not parse
			for _, fd := range fds {
				unix.Close(fd)
			}
		case m.Header.Type == unix.SO_TIMESTAMPNS:
			if ts, ok := parseTimespec(m.Data); ok {
				d.Stamp = ts
			}
		}
	}
}

// parseTimespec reads a struct timespec of a 64-bit machine.
func parseTimespec(b []byte) (ns int64, ok bool) {
	if len(b) < 16 {
		return 0, false
	}
	return int64(binary.NativeEndian.Uint64(b))*1e9 + int64(binary.NativeEndian.Uint64(b[8:])), true
}
