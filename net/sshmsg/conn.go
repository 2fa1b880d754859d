// Package sshmsg owns what the three parts of an ssh server say to each other, and how: sshd, which listens, holds the host key and knows
// who may log in (package sshaccess); the process of a connection, which has no rights and speaks with the client (package sshconn); and
// the process of root, which starts what the client asks for once it has logged in (package sshroot).
//
//	before the login   connection ── Begin, Sign, Offer, Enter ──▶ sshd, which passes a socket to root's process with its last answer
//	after it           connection ── Talk, with a socket ────────▶ root
//	on such a socket   connection ── Sign, Dial, Listen, … ──────▶ root; its end, whatever the cause, ends what was started on it
//
// Each message is a packet of its own: a byte that names it, then its fields as ssh writes them. Read Conn, then the messages.
package sshmsg

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// Max is the size of the longest message: a command that the kernel would still start.
const Max = 160 << 10

// maxFiles bounds the descriptors that come with a message.
const maxFiles = 4

// Conn is one end of a socket between two parts.
type Conn struct{ unix *net.UnixConn }

// Pair makes a socket: one end for the caller, and a file to pass on and close.
func Pair() (*Conn, *os.File, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(ends[1]), "socket")
	c, err := Take(os.NewFile(uintptr(ends[0]), "socket"))
	if err != nil {
		theirs.Close() // nothing has been said on it
		return nil, nil, err
	}
	return c, theirs, nil
}

// Take makes an end of a socket of the file that was passed, and closes that.
func Take(f *os.File) (*Conn, error) {
	conn, err := net.FileConn(f)
	f.Close() // the connection has its own
	if err != nil {
		return nil, fmt.Errorf("take socket: %w", err)
	}
	c, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close() // nothing has been said on it
		return nil, fmt.Errorf("take socket: it is a %s", conn.LocalAddr().Network())
	}
	return &Conn{c}, nil
}

// Close ends the talk; the other side receives io.EOF.
func (c *Conn) Close() error { return c.unix.Close() }

// Unix is the socket itself, for its deadlines and for passing it on.
func (c *Conn) Unix() *net.UnixConn { return c.unix }

// Send sends a message of this package, and copies of descriptors with it.
func (c *Conn) Send(message any, files ...syscall.Conn) error {
	packet := ssh.Marshal(message)
	if len(packet) > Max {
		return fmt.Errorf("send message: %d bytes, the limit is %d", len(packet), Max)
	}
	var rights []int
	for _, f := range files {
		raw, err := f.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { rights = append(rights, int(fd)) })
		}
		if err != nil {
			return fmt.Errorf("send message: %w", err)
		}
	}
	var oob []byte
	if len(rights) > 0 {
		oob = unix.UnixRights(rights...)
	}
	_, _, err := c.unix.WriteMsgUnix(packet, oob, nil)
	runtime.KeepAlive(files)
	return err
}

// Receive waits for a message of up to limit bytes. The first byte of the packet names it; Read reads it. The files are the caller's. It
// fails with io.EOF when the other side has closed its end.
func (c *Conn) Receive(limit int) (packet []byte, files []*os.File, err error) {
	packet, oob := make([]byte, limit), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := c.unix.ReadMsgUnix(packet, oob)
	if err != nil {
		if errors.Is(err, unix.ECONNRESET) { // it has closed with something unread
			err = io.EOF
		}
		return nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	for i := range messages {
		fds, _ := unix.ParseUnixRights(&messages[i]) // none if it does not parse
		for _, fd := range fds {
			unix.SetNonblock(fd, true) // fails only for a descriptor that is none; what waits for it must not hold a thread
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	if err == nil && (flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || n == 0) {
		err = fmt.Errorf("receive message: longer than %d bytes, or with more than %d files", limit, maxFiles)
	}
	if err != nil {
		CloseAll(files)
		return nil, nil, err
	}
	return packet[:n], files, nil
}

// CloseAll closes files that nobody wants.
func CloseAll(files []*os.File) {
	for _, f := range files {
		f.Close() // nothing has been written to it
	}
}

// Read reads a packet as the message that it has to be.
func Read(packet []byte, message any) error { return ssh.Unmarshal(packet, message) }

// Ask sends a message and waits for its answer, which comes with count files, or with none.
func (c *Conn) Ask(message, answer any, count int, with ...syscall.Conn) ([]*os.File, error) {
	if err := c.Send(message, with...); err != nil {
		return nil, err
	}
	return c.Answer(answer, count)
}

// AskAny is Ask for an answer that comes with as many files as it says itself.
func (c *Conn) AskAny(message, answer any) ([]*os.File, error) {
	return c.Ask(message, answer, anyCount)
}

// anyCount is of files: none to maxFiles.
const anyCount = -1

// maxAnswer is the size of the longest answer.
const maxAnswer = 4 << 10

// Answer waits for the answer to a message. One with a Why is an error.
func (c *Conn) Answer(answer any, count int) ([]*os.File, error) {
	packet, files, err := c.Receive(maxAnswer)
	if err != nil {
		return nil, err
	}
	var refused Refused
	switch {
	case packet[0] == KindRefused && Read(packet, &refused) == nil:
		err = errors.New(refused.Why)
	case count != anyCount && len(files) != count:
		err = fmt.Errorf("receive answer: %d files, want %d", len(files), count)
	default:
		err = Read(packet, answer)
	}
	if err != nil {
		CloseAll(files)
		return nil, err
	}
	return files, nil
}

// Refuse answers that something cannot be done.
func (c *Conn) Refuse(why error) error {
	text := why.Error()
	return c.Send(Refused{text[:min(len(text), maxAnswer-16)]})
}
