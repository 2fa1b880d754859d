package logd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"resinos/services/log/entry"
	"resinos/services/log/pipe"
)

const (
	// turnBytes is what one source may bring in before the others have their turn.
	turnBytes = 64 << 10
	pageSize  = 4096
)

// A spool is the file in the RAM file system that splice(2) moves a pipe's bytes into. Moving is one system call, so a
// process killed around it has each byte either in the pipe or in the file. The file only grows at its end; what has
// been parsed and committed to the ring is punched out of its front, so offsets stay true and the memory is given back.
//
//	0 ....... punched ....... cursor ....... scanned ....... end
//	 (hole)           in the ring     a line's beginning     unread
type spool struct {
	source pipe.Source
	fd     int
	path   string

	punched int64
	cursor  int64 // all before it is appended to the ring
	scanned int64 // no line end between cursor and here
	end     int64
}

// openSpool opens or makes the spool of s. A new file begins, as a hole, at the cursor that the ring knows: cursors
// never go back, not even when a source's spool is gone.
func openSpool(dir string, s pipe.Source, cursor int64) (*spool, error) {
	path := filepath.Join(dir, s.String())
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, &fs.PathError{Op: "open log spool", Path: path, Err: err}
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Size < cursor {
		st.Size, err = cursor, unix.Ftruncate(fd, cursor)
	}
	if err != nil {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "open log spool", Path: path, Err: err}
	}
	return &spool{source: s, fd: fd, path: path, cursor: cursor, scanned: cursor, end: st.Size}, nil
}

func (s *spool) close() { unix.Close(s.fd) }

// remove deletes the spool of a source that is gone.
func (s *spool) remove() {
	s.close()
	os.Remove(s.path) // what stays behind is found and removed at the next start
}

// fill moves up to turnBytes from the pipe to the spool and says how many. It returns unix.ENOSPC, with the bytes
// still in the pipe, when the file system is full.
func (s *spool) fill(pipe int) (moved int, err error) {
	for moved < turnBytes {
		n, err := unix.Splice(pipe, nil, s.fd, &s.end, turnBytes-moved, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) || err == nil && n == 0 {
			return moved, nil
		}
		if err != nil {
			return moved, fmt.Errorf("splice log pipe %s: %w", s.source, err)
		}
		moved += int(n)
	}
	return moved, nil
}

// A sink takes the lines of a spool.
type sink interface {
	// line takes one; cursor is behind it.
	line(l line, cursor int64) error
	// discard may pass over whole lines at the beginning of b: it returns their bytes.
	discard(b []byte) int
}

// lines hands the spool's whole lines to to and moves the cursor over those that it accepted; buf is scratch memory of
// at least one line and a half. An error is to's or the file's; the line it came for stays.
func (s *spool) lines(buf []byte, flush bool, to sink) error {
	control := s.source.Kind == pipe.Service
	for s.cursor < s.end {
		if s.scanned > s.cursor && !flush && s.end-s.cursor <= entry.MaxMessage {
			found, err := s.scan(buf)
			if !found || err != nil {
				return err
			}
		}
		n, err := s.read(buf, s.cursor)
		if err != nil {
			return err
		}
		b := buf[:n]
		last := s.cursor+int64(n) == s.end
		for {
			if n := to.discard(b); n > 0 {
				s.cursor += int64(n)
				b = b[n:]
			}
			l, ok := nextLine(b, flush && last, control)
			if !ok {
				break
			}
			if err := to.line(l, s.cursor+int64(l.size)); err != nil {
				return err
			}
			s.cursor += int64(l.size)
			b = b[l.size:]
		}
		if s.scanned = s.cursor + int64(len(b)); last {
			return nil
		}
	}
	return nil
}

// scan looks for a line end in what has come since the last time, so that a program which writes a line byte by byte
// does not make us read it from its beginning each time.
func (s *spool) scan(buf []byte) (found bool, err error) {
	n, err := s.read(buf, s.scanned)
	if err != nil {
		return false, err
	}
	if bytes.IndexByte(buf[:n], '\n') >= 0 {
		return true, nil
	}
	s.scanned += int64(n)
	return false, nil
}

func (s *spool) read(buf []byte, at int64) (int, error) {
	n, err := unix.Pread(s.fd, buf[:min(int64(len(buf)), s.end-at)], at)
	if err == nil && n == 0 {
		err = errors.New("file became shorter")
	}
	if err != nil {
		return 0, fmt.Errorf("read log spool %s: %w", s.source, err)
	}
	return n, nil
}

// punch gives back the memory behind the cursor, which must have been committed: all of it when nothing is unread, else
// in large pieces. A page that the next splice goes on in may be punched too: it comes back with zeros in front.
func (s *spool) punch() error {
	from, upto := s.punched&^(pageSize-1), s.cursor&^(pageSize-1)
	switch {
	case s.cursor == s.punched:
		return nil
	case s.cursor == s.end:
		upto = (s.end + pageSize - 1) &^ (pageSize - 1)
	case upto-from < turnBytes:
		return nil
	}
	err := unix.Fallocate(s.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, upto-from)
	if err != nil {
		return fmt.Errorf("punch log spool %s: %w", s.source, err)
	}
	s.punched = min(s.cursor, upto)
	return nil
}
