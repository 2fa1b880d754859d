package notify

import (
	"cmp"
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
	kept atomic.Bool // somebody has a File of it: the path outlives this listener
}

// Listen creates the socket at path, replacing whatever was there. Everybody may send, because a service may run as any
// user; Sender tells whose messages count.
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

// credentials makes the kernel add the sender to each message.
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

// From returns a Listener for a socket that an earlier life of PID 1 has bound to path. It uses a descriptor of its
// own; f still belongs to the caller.
func From(f *os.File, path string) (*Listener, error) {
	packets, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("take over notification socket: %w", err)
	}
	conn, ok := packets.(*net.UnixConn)
	if !ok {
		packets.Close() // not needed
		return nil, errors.New("take over notification socket: not a unix socket")
	}
	l := &Listener{conn: conn, path: path}
	if err := l.credentials(); err != nil {
		conn.Close() // the set-up error says more
		return nil, fmt.Errorf("take over notification socket: %w", err)
	}
	return l, nil
}

// File returns another descriptor of the socket, which the next life of PID 1 passes to From. From now on the path
// stays when l is closed. It fails once l is closed, as at the end of Run.
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

// Sender is the sender of a message, from the kernel.
type Sender struct{ PID, UID int }

const (
	// MaxFiles limits the descriptors of one message; further ones are closed.
	MaxFiles = 64
	// kernelFiles is SCM_MAX_FD, the most descriptors in a datagram. There is room for all of them: the kernel drops
	// what does not fit, and the message would look like a complete one.
	kernelFiles = 253
)

// Receiver handles the messages. The goroutine of Run calls it: while it blocks, senders wait.
type Receiver struct {
	// Accept is called for each message that decodes, in order, with its descriptors, which then belong to it.
	Accept func(Sender, Message, []*os.File)
	// Refuse is called for each message that does not decode.
	Refuse func(Sender, error)
	// Stores returns how many descriptors a sender may leave with us. All others are closed before anything else is
	// done, so that no stranger fills our table. nil: MaxFiles for everybody.
	Stores func(Sender) int
}

// Run receives until ctx is cancelled, then removes the socket (unless File was called) and returns ctx's cause. A
// barrier is lifted once Accept has returned for everything before it; it reaches Accept only if the message contains
// something else too.
func (l *Listener) Run(ctx context.Context, to Receiver) error {
	stop := context.AfterFunc(ctx, func() { l.conn.Close() })
	defer stop()
	defer l.Close()
	buf, oob := make([]byte, MaxSize+1), make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(kernelFiles*4))
	for {
		n, oobn, flags, _, err := l.conn.ReadMsgUnix(buf, oob)
		if ctx.Err() != nil {
			if err == nil {
				closeAll(control(oob[:oobn]).fds) // they arrived at the last moment
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

// decode returns the message and its files. It closes the files that it does not return.
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
	files, err := wrap(keep, cmp.Or(m.FDName, "stored"))
	return m, files, err
}

func wrap(fds []int, name string) ([]*os.File, error) {
	var files []*os.File
	for i, fd := range fds {
		f, err := hold.File(fd, name)
		if err != nil {
			closeAll(fds[i+1:])
			for _, f := range files {
				f.Close() // not needed
			}
			return nil, fmt.Errorf("receive notification: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

// Close closes the socket and, unless File was called, removes it from the file system. Run does this itself.
func (l *Listener) Close() {
	l.conn.Close() // closing twice does no harm
	if !l.kept.Load() {
		os.Remove(l.path) // it may be removed already
	}
}

// carried is what came with the text of a message.
type carried struct {
	from Sender
	fds  []int
}

// control reads credentials and descriptors from the control data.
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
		unix.Close(fd) // it is not used
	}
}
