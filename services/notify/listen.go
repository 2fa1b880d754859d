package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Listener is the receiving end of the socket.
type Listener struct {
	conn *net.UnixConn
	path string
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

// Sender is who sent a message, as the kernel says.
type Sender struct{ PID, UID int }

// Run receives until ctx is cancelled, then removes the socket and returns ctx's cause. Each
// datagram that decodes goes to accept, in order; each that does not goes to refuse. Either is
// called from Run's goroutine: while it blocks, senders wait.
func (l *Listener) Run(ctx context.Context, accept func(Sender, Message), refuse func(Sender, error)) error {
	stop := context.AfterFunc(ctx, func() { l.conn.Close() })
	defer stop()
	defer l.Close()
	buf, oob := make([]byte, MaxSize+1), make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(64*4))
	for {
		n, oobn, flags, _, err := l.conn.ReadMsgUnix(buf, oob)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("receive notification: %w", err)
		}
		from := sender(oob[:oobn])
		m, err := Parse(string(buf[:n]))
		if flags&unix.MSG_TRUNC != 0 {
			err = errors.New("parse notification: longer than 4096 bytes")
		}
		if err != nil {
			refuse(from, err)
			continue
		}
		accept(from, m)
	}
}

// Close closes the socket and removes it from the file system. Run does it by itself.
func (l *Listener) Close() {
	l.conn.Close()    // a second close only says that it is closed
	os.Remove(l.path) // already gone is as good
}

// sender takes the credentials out of the control data and closes descriptors that came along:
// a service may send some (FDSTORE), and a stranger may try to fill our table.
func sender(oob []byte) Sender {
	var s Sender
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return s
	}
	for i := range messages {
		if cred, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			s = Sender{PID: int(cred.Pid), UID: int(cred.Uid)}
		}
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			for _, fd := range fds {
				unix.Close(fd) // not ours to use
			}
		}
	}
	return s
}
