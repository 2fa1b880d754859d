package pipe

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// pipeBuf is PIPE_BUF: a write of at most this many bytes goes into a pipe whole or not at all.
const pipeBuf = 4096

// A Writer writes lines into a pipe and never waits. What does not fit is dropped and counted; the count is written as
// a line of its own as soon as there is room again. It is made for PID 1's own log and may be used by several
// goroutines at once.
type Writer struct {
	file *os.File

	mu      sync.Mutex // guards dropped, and keeps the marker before the line that follows it
	dropped int
}

// NewWriter returns a Writer on a pipe from OpenNonblock. The caller keeps ownership of the file.
func NewWriter(file *os.File) *Writer { return &Writer{file: file} }

// Write writes p, which should be whole lines, and always reports success: a log that is full must not stop its
// producer. A write longer than PIPE_BUF is cut there so that it stays in one piece.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dropped > 0 {
		if !w.put(fmt.Appendf(nil, "<4>log pipe was full: %d writes dropped\n", w.dropped)) {
			w.dropped++
			return len(p), nil
		}
		w.dropped = 0
	}
	if !w.put(cut(p)) {
		w.dropped++
	}
	return len(p), nil
}

// put writes directly: os.File.Write would park the goroutine until there is room.
func (w *Writer) put(p []byte) bool {
	conn, err := w.file.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	err = conn.Control(func(fd uintptr) {
		for {
			_, err := unix.Write(int(fd), p)
			if !errors.Is(err, unix.EINTR) {
				ok = err == nil
				return
			}
		}
	})
	return ok && err == nil
}

func cut(p []byte) []byte {
	if len(p) <= pipeBuf {
		return p
	}
	if end := bytes.LastIndexByte(p[:pipeBuf], '\n'); end >= 0 {
		return p[:end+1]
	}
	return append(p[:pipeBuf-1:pipeBuf-1], '\n')
}
