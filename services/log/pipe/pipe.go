// Package pipe owns the named pipes through which every producer of output reaches the log: their names,
// their creation and their opening.
//
// A pipe is opened for reading and writing by all sides, so that nobody ever sees an end of file or a broken pipe when
// the other side dies; what was written waits in the pipe until logd is back. The package never reads a pipe and keeps
// no state. Read Source first.
package pipe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is where the pipes lie on the device.
const Dir = "/run/resinos/log"

// The kinds of source, and the streams that each of them may have.
const (
	Service   = "service"
	Container = "container"

	Stdout = "stdout"
	Stderr = "stderr"
	Log    = "log"
)

// pipeSize is the size that Open asks the kernel for: some thousand lines while logd is being restarted. The kernel
// allocates the pages only when they are used.
const pipeSize = 256 << 10

// maxName keeps a whole file name below NAME_MAX (255).
const maxName = 200

// A Source is one stream of output of one service or container. Its name has parts of [a-z0-9][a-z0-9_-]*, joined by
// dots. To the log it means nothing: what starts a service or container names it, and who asks knows what the name
// says.
type Source struct {
	Kind, Name, Stream string
}

// String returns the source's file name, KIND.NAME.STREAM.
func (s Source) String() string { return s.Kind + "." + s.Name + "." + s.Stream }

// Check says what is wrong with a source that did not come from ParseName.
func (s Source) Check() error {
	if s.Stream != Stdout && s.Stream != Stderr && s.Stream != Log {
		return fmt.Errorf("check log source %q: stream %q is not stdout, stderr or log", s, s.Stream)
	}
	if len(s.Name) > maxName {
		return fmt.Errorf("check log source %q: name is longer than %d bytes", s, maxName)
	}
	if s.Kind != Service && s.Kind != Container {
		return fmt.Errorf("check log source %q: kind %q is not service or container", s, s.Kind)
	}
	for part := range strings.SplitSeq(s.Name, ".") {
		if !valid(part) {
			return fmt.Errorf("check log source %q: name part %q is not [a-z0-9][a-z0-9_-]*", s, part)
		}
	}
	return nil
}

// ParseName is the reverse of String, for the names found in Dir.
func ParseName(file string) (Source, error) {
	kind, rest, ok := strings.Cut(file, ".")
	dot := strings.LastIndexByte(rest, '.')
	if !ok || dot < 0 {
		return Source{}, fmt.Errorf("parse log pipe name %q: not KIND.NAME.STREAM", file)
	}
	s := Source{Kind: kind, Name: rest[:dot], Stream: rest[dot+1:]}
	if err := s.Check(); err != nil {
		return Source{}, err
	}
	return s, nil
}

// Path returns where the pipe of s lies below dir.
func Path(dir string, s Source) string { return filepath.Join(dir, s.String()) }

// Open makes the pipe of s if it is missing, opens it for reading and writing, and enlarges it. The file is in
// blocking mode, fit to become the standard output of a process: a producer waits while the log is behind. The caller
// owns the file; the pipe's content lives as long as any process holds the pipe open.
func Open(dir string, s Source) (*os.File, error) { return open(dir, s, 0) }

// OpenNonblock is Open for the side that must never wait: logd, and PID 1's own output.
func OpenNonblock(dir string, s Source) (*os.File, error) { return open(dir, s, unix.O_NONBLOCK) }

func open(dir string, s Source, flags int) (*os.File, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	path := Path(dir, s)
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &fs.PathError{Op: "make log pipe", Path: path, Err: err}
	}
	// Not os.OpenFile: it would set O_NONBLOCK on the open file, which children inherit.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW|flags, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open log pipe", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "open log pipe", Path: path,
			Err: errors.Join(err, errors.New("not a named pipe"))}
	}
	// A smaller pipe works too: the kernel refuses when the user's share of pipe memory is used up.
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize)
	return os.NewFile(uintptr(fd), path), nil
}

func valid(part string) bool {
	for i := range len(part) {
		c := part[i]
		letter := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '-' && c != '_') {
			return false
		}
	}
	return part != ""
}
