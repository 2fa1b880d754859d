package qemu

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
)

// Faults that a caller of Start can do something about. Its errors wrap these.
var (
	ErrMissing = errors.New("not installed")
	ErrLocked  = errors.New("another QEMU uses it")
	ErrPort    = errors.New("the port is in use")
)

// debianPackage maps a program to the Debian package that contains it.
var debianPackage = map[string]string{
	"qemu-img":            "qemu-utils",
	"qemu-system-x86_64":  "qemu-system-x86",
	"qemu-system-i386":    "qemu-system-x86",
	"qemu-system-aarch64": "qemu-system-arm",
	"qemu-system-arm":     "qemu-system-arm",
	"qemu-system-riscv64": "qemu-system-misc",
}

func missing(program string) error {
	name, known := debianPackage[filepath.Base(program)]
	if !known {
		return fmt.Errorf("find %s: %w", program, ErrMissing)
	}
	return fmt.Errorf("find %s: %w; install it with: apt-get install %s", program, ErrMissing, name)
}

// explain turns the last output of QEMU into an error. The messages are those of QEMU 5 to 10.
func explain(o Options, said string) error {
	last := said[strings.LastIndexByte(said, '\n')+1:]
	switch {
	case strings.Contains(said, `to get "write" lock`), strings.Contains(said, `to get shared "write" lock`):
		return fmt.Errorf("lock image %s: %w, end that one first: %s", o.Image, ErrLocked, last)
	case strings.Contains(said, "Could not set up host forwarding rule"):
		return fmt.Errorf("forward port %d: %w; choose another with --ssh-port: %s", o.Network.SSHPort, ErrPort, last)
	}
	return fmt.Errorf("run %s: %s", o.Board.Qemu.System, said)
}

// FreePort returns a TCP port of the loopback on which nobody listens at this moment.
func FreePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
