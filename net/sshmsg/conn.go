// Package sshmsg owns the messages between the three parts of the ssh server: sshd, which listens, has the host key and
// knows who may log in (package sshaccess); the process of a connection, which has no rights and speaks with the client
// (package sshconn); and root's process, which starts what the client asks for after the login (package sshroot).
//
//	before the login   connection ── Begin, Sign, Offer, Enter ──▶ sshd; its last answer has a socket of root
//	after it           connection ── Talk, with a socket ────────▶ root
//	on such a socket   connection ── Sign, Dial, Listen, … ──────▶ root; its end ends what was started on it
//
// Each message is a packet of its own: a byte for its kind, then its fields in the encoding of ssh. Read Conn, then the
// messages.
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

// Max is the size of the longest message: a command as long as the kernel accepts.
const Max = 160 << 10

// maxFiles limits the descriptors in a message.
const maxFiles = 4

// Conn is one end of a socket between two parts.
type Conn struct{ unix *net.UnixConn }

// Pair creates a socket: one end for the caller, and a file to pass on and close.
func Pair() (*Conn, *os.File, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(ends[1]), "socket")
	c, err := Take(os.NewFile(uintptr(ends[0]), "socket"))
	if err != nil {
		theirs.Close() // nothing was sent on it
		return nil, nil, err
	}
	return c, theirs, nil
}

// Take returns an end of a socket from a file that was passed, and closes the file.
func Take(f *os.File) (*Conn, error) {
	conn, err := net.FileConn(f)
	f.Close() // the connection has a descriptor of its own
	if err != nil {
		return nil, fmt.Errorf("take socket: %w", err)
	}
	c, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close() // nothing was sent on it
		return nil, fmt.Errorf("take socket: it is a %s", conn.LocalAddr().Network())
	}
	return &Conn{c}, nil
}

// Close closes the socket; the other side receives io.EOF.
func (c *Conn) Close() error { return c.unix.Close() }

// Unix returns the socket itself, for deadlines and for passing it on.
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

// Receive waits for a message of up to limit bytes. The first byte of the packet is its kind; Read decodes it. The
// caller owns the files. Receive fails with io.EOF when the other side has closed its end.
func (c *Conn) Receive(limit int) (packet []byte, files []*os.File, err error) {
	packet, oob := make([]byte, limit), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := c.unix.ReadMsgUnix(packet, oob)
	if err != nil {
		if errors.Is(err, unix.ECONNRESET) { // it was closed with unread data
			err = io.EOF
		}
		return nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	for i := range messages {
		fds, _ := unix.ParseUnixRights(&messages[i]) // none if it does not parse
		for _, fd := range fds {
			unix.SetNonblock(fd, true) // fails only for a bad descriptor; reading from it must not block a thread
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

// CloseAll closes files that are not needed.
func CloseAll(files []*os.File) {
	for _, f := range files {
		f.Close() // nothing was written to it
	}
}

// Read decodes a packet as a message of the given type.
func Read(packet []byte, message any) error { return ssh.Unmarshal(packet, message) }

// Ask sends a message and waits for its answer, which comes with exactly count files, or is an error.
func (c *Conn) Ask(message, answer any, count int, with ...syscall.Conn) ([]*os.File, error) {
	if err := c.Send(message, with...); err != nil {
		return nil, err
	}
	return c.Answer(answer, count)
}

// AskAny is Ask for an answer with any number of files.
func (c *Conn) AskAny(message, answer any) ([]*os.File, error) {
	return c.Ask(message, answer, anyCount)
}

// anyCount allows any number of files up to maxFiles.
const anyCount = -1

// maxAnswer is the size of the longest answer.
const maxAnswer = 4 << 10

// Answer waits for the answer to a message. An answer with a Why is an error.
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

// Refuse answers that a request cannot be carried out.
func (c *Conn) Refuse(why error) error {
	text := why.Error()
	return c.Send(Refused{text[:min(len(text), maxAnswer-16)]})
}
