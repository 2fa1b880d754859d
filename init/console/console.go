// Package console owns how PID 1 and stage 1 print: lines into the kernel log and onto the console, by writes that
// never block, and descriptors 0 to 2. It keeps no log and formats none: services/log/line does. Read EarlyLog first.
package console

import (
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/services/log/line"
)

// fdWriter writes straight to a descriptor. os.File would park the goroutine when a non-blocking write finds no room;
// here the line is dropped instead, because a console with flow control must not stop PID 1.
type fdWriter int

// Write implements io.Writer and always reports success.
func (w fdWriter) Write(p []byte) (int, error) {
	for {
		if _, err := unix.Write(int(w), p); err != unix.EINTR {
			return len(p), nil
		}
	}
}

// openWriter opens a device for writes that never block; nil when there is none.
func openWriter(path string) *fdWriter {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	w := fdWriter(fd)
	return &w
}

// EarlyLog returns a handler that writes into the kernel log and, on verbose images, to the console. It is what both
// stages begin with.
func EarlyLog(verbose bool) *line.Handler {
	return line.New(KernelLog(), Console(verbose))
}

// KernelLog is a writer into the kernel log; nil where there is none.
func KernelLog() io.Writer {
	if w := openWriter("/dev/kmsg"); w != nil {
		return w
	}
	return nil // not w: an interface that holds a nil pointer is not nil
}

// Console is a writer to the console; nil where there is none, or none is wanted.
func Console(wanted bool) io.Writer {
	if !wanted {
		return nil
	}
	if w := openWriter("/dev/console"); w != nil {
		return w
	}
	return nil
}

// Say writes a line to the console whatever the variant: the last words before a reboot.
func Say(text string) {
	if w := openWriter("/dev/console"); w != nil {
		fmt.Fprintf(w, "resinos: %s\n", strings.TrimSpace(text))
		// The descriptor is closed so that repeated calls cannot use all of them up.
		unix.Close(int(*w))
	}
}

// TakeStdio puts descriptors 0-2 on devices. Never a pipe: a write to a broken one would end a Go program with SIGPIPE.
// The runtime's own last words (a panic) go to the kernel log, where logd and pstore find them.
func TakeStdio() {
	null, err := unix.Open("/dev/null", unix.O_RDWR, 0)
	if err != nil {
		return // what the kernel gave us is a device as well
	}
	out, err := unix.Open("/dev/kmsg", unix.O_WRONLY, 0)
	if err != nil {
		out = null
	}
	for fd, from := range []int{null, out, out} {
		if fd != from {
			_ = unix.Dup3(from, fd, 0)
		}
	}
	for _, fd := range []int{null, out} {
		if fd > 2 {
			unix.Close(fd)
		}
	}
}
