package notify

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Variable is the environment variable that names the socket.
const Variable = "NOTIFY_SOCKET"

// Ready reports that this service is up. Without a NOTIFY_SOCKET it does nothing and returns no error.
func Ready() error { return Send("READY=1") }

// Settle returns when the parent has received everything that was sent before: a process that ends at once may be gone
// before the parent has looked it up. It fails after limit. Without a NOTIFY_SOCKET it does nothing and returns no
// error.
func Settle(limit time.Duration) error {
	if os.Getenv(Variable) == "" {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	defer r.Close() // nothing is buffered
	err = errors.Join(Send("BARRIER=1", int(w.Fd())), w.Close(), r.SetReadDeadline(time.Now().Add(limit)))
	if err != nil {
		return err
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // the parent closes its copy
		return fmt.Errorf("notify %s: messages not taken: %w", os.Getenv(Variable), err)
	}
	return nil
}

// Send sends one message, lines NAME=value, and copies of descriptors to the parent, if it listens.
func Send(text string, fds ...int) error { return send(text, 0, fds...) }

func send(text string, flags int, fds ...int) error {
	path := os.Getenv(Variable)
	if path == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	defer unix.Close(fd) // nothing is buffered
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(fd, []byte(text), rights, &unix.SockaddrUnix{Name: path}, flags); err != nil {
		return fmt.Errorf("notify %s: %w", path, err)
	}
	return nil
}
