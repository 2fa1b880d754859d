package notify

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Variable is the environment variable that names the socket.
const Variable = "NOTIFY_SOCKET"

// Ready reports that this service is up. Without a NOTIFY_SOCKET it does nothing and returns no error.
func Ready() error { return Send("READY=1") }

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
