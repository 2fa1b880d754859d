package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"resinos/services/hold"
)

// Listener is the receiving end of the socket.
type Listener struct {
	conn *net.UnixConn
	path string
	kept atomic.Bool // somebody has a File of it: the path outlives us
}

// Listen makes the socket at path, in the place of whatever was there. Everybody may send, as a
// service may run as any user; who counts is told by Sender.
func Listen(path string) (*Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen for notifications: %w", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listen for notifications: %w", err)
	}
	l := &Listener{conn: conn, path: path}
	if err := l.setup(); err != nil {
		conn.Close() // the set-up error says more
		return nil, fmt.Errorf("listen for notifications on %s: %w", path, err)
	}
	return l, nil
}

func (l *Listener) setup() error {
	if err := os.Chmod(l.path, 0o666); err != nil {
		return err
	}
	return l.credentials()
}

// credentials asks the kernel to tell who sends.
func (l *Listener) credentials() error {
	raw, err := l.conn.SyscallConn()
	if err != nil {
		return err
	}
	var opt error
	err = raw.Control(func(fd uintptr) {
		opt = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	})
	return errors.Join(err, opt)
}

// From makes a Listener of a socket that an earlier life of PID 1 has bound to path. It has its
// own descriptor of it; f stays the caller's.
func From(f *os.File, path string) (*Listener, error) {
	packets, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("take over notification socket: %w", err)
	}
	conn, ok := packets.(*net.UnixConn)
	if !ok {
		packets.Close() // never ours
		return nil, errors.New("take over notification socket: not a unix socket")
	}
	l := &Listener{conn: conn, path: path}
	if err := l.credentials(); err != nil {
		conn.Close() // the set-up error says more
		return nil, fmt.Errorf("take over notification socket: %w", err)
	}
	return l, nil
}

// File returns another descriptor of the socket, for the next life of PID 1 to give to From. From
// now on the path stays where it is when l is closed. It fails once l is closed, which the end of
// Run does.
func (l *Listener) File() (*os.File, error) {
	raw, err := l.conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("duplicate notification socket: %w", err)
	}
	dup, opt := -1, error(nil)
	err = raw.Control(func(fd uintptr) { dup, opt = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) })
	if err := errors.Join(err, opt); err != nil {
		return nil, fmt.Errorf("duplicate notification socket: %w", err)
	}
	f, err := hold.File(dup, "notify")
	if err == nil {
		l.kept.Store(true)
	}
	return f, err
}

// Sender is who sent a message, as the kernel says.
type Sender struct{ PID, UID int }

const (
	// MaxFiles bounds the descriptors of one message; those above it are closed.
	MaxFiles = 64
	// kernelFiles is SCM_MAX_FD, the most a datagram can carry. There is room for all: what the kernel cannot
	// deliver it throws away, and the message could not be told from a whole one with as many.
	kernelFiles = 253
)

// Receiver is who is told of the messages. All is called from the goroutine of Run: while it blocks, senders wait.
type Receiver struct {
	// Accept gets each message that decodes, in order, with the descriptors it carried, which are its own from then on.
	Accept func(Sender, Message, []*os.File)
	// Refuse gets what does not decode.
	Refuse func(Sender, error)
	// Stores says how many descriptors a sender may leave with us. All others are closed before anybody waits for anything, so
	// that no stranger fills our table. nil: MaxFiles for everybody.
	Stores func(Sender) int
}

// Run receives until ctx is cancelled, then removes the socket (unless File was called) and
// returns ctx's cause. A barrier is lifted once Accept has returned for all that came before; it
// reaches Accept only if the message says something else too.
func (l *Listener) Run(ctx context.Context, to Receiver) error {
	stop := context.AfterFunc(ctx, func() { l.conn.Close() })
	defer stop()
	defer l.Close()
	buf, oob := make([]byte, MaxSize+1), make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(kernelFiles*4))
	for {
		n, oobn, flags, _, err := l.conn.ReadMsgUnix(buf, oob)
		if ctx.Err() != nil {
			if err == nil {
				closeAll(control(oob[:oobn]).fds) // came in the last moment
			}
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("receive notification: %w", err)
		}
		c := control(oob[:oobn])
		m, files, err := to.decode(buf[:n], flags, c)
		switch {
		case err != nil:
			to.Refuse(c.from, err)
		case m.Barrier && reflect.DeepEqual(m, Message{Barrier: true}):
		default:
			to.Accept(c.from, m, files)
		}
	}
}

// decode makes a message and its files of what was received. What it does not return is closed.
func (to Receiver) decode(data []byte, flags int, c carried) (Message, []*os.File, error) {
	m, err := Parse(string(data))
	switch {
	case flags&unix.MSG_TRUNC != 0:
		err = errors.New("parse notification: longer than 4096 bytes")
	case flags&unix.MSG_CTRUNC != 0:
		err = errors.New("receive notification: some of its descriptors were lost")
	}
	if err != nil || m.Barrier || !m.FDStore || m.FDRemove {
		closeAll(c.fds)
		return m, nil, err
	}
	most := MaxFiles
	if to.Stores != nil && len(c.fds) > 0 {
		most = min(most, to.Stores(c.from))
	}
	keep := c.fds[:min(len(c.fds), most)]
	closeAll(c.fds[len(keep):])
	files, err := wrap(keep)
	return m, files, err
}

func wrap(fds []int) ([]*os.File, error) {
	var files []*os.File
	for i, fd := range fds {
		f, err := hold.File(fd, "stored")
		if err != nil {
			closeAll(fds[i+1:])
			for _, f := range files {
				f.Close() // never ours
			}
			return nil, fmt.Errorf("receive notification: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

// Close closes the socket and, unless File was called, removes it from the file system. Run does
// it by itself.
func (l *Listener) Close() {
	l.conn.Close() // a second close only says that it is closed
	if !l.kept.Load() {
		os.Remove(l.path) // already gone is as good
	}
}

// carried is what came beside the text of a message.
type carried struct {
	from Sender
	fds  []int
}

// control takes credentials and descriptors out of the control data.
func control(oob []byte) carried {
	var c carried
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return c
	}
	for i := range messages {
		if cred, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			c.from = Sender{PID: int(cred.Pid), UID: int(cred.Uid)}
		}
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			c.fds = append(c.fds, fds...)
		}
	}
	return c
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd) // not ours to use
	}
}
