// Package spool moves the bytes of a log pipe into a file in RAM and splits them into lines, so that a process that is
// killed at any moment loses no byte. It keeps no entry and knows no limit: its Sink does. Read Spool first.
package spool

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
	// TurnBytes is what one source may bring in before the others have their turn.
	TurnBytes = 64 << 10
	pageSize  = 4096
)

// A Spool is the file in the RAM file system that splice(2) moves a pipe's bytes into. Moving is one system call, so a
// process killed around it has each byte either in the pipe or in the file. The file only grows at its end; what has
// been parsed and committed to the ring is punched out of its front, so offsets stay true and the memory is given back.
//
//	0 ....... punched ....... cursor ....... scanned ....... end
//	 (hole)           in the ring     a line's beginning     unread
type Spool struct {
	Source pipe.Source
	fd     int
	path   string

	punched int64
	Cursor  int64 // all before it is appended to the ring
	scanned int64 // no line end between cursor and here
	End     int64
}

// Open opens or makes the spool of s. A new file begins, as a hole, at the cursor that the ring knows: cursors
// never go back, not even when a source's spool is gone.
func Open(dir string, s pipe.Source, cursor int64) (*Spool, error) {
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
	return &Spool{Source: s, fd: fd, path: path, Cursor: cursor, scanned: cursor, End: st.Size}, nil
}

// Close gives the spool up and keeps its file.
func (s *Spool) Close() { unix.Close(s.fd) }

// Remove deletes the spool of a source that is gone.
func (s *Spool) Remove() {
	s.Close()
	os.Remove(s.path) // what stays behind is found and removed at the next start
}

// Fill moves up to turnBytes from the pipe to the spool and says how many. It returns unix.ENOSPC, with the bytes
// still in the pipe, when the file system is full.
func (s *Spool) Fill(pipe int) (moved int, err error) {
	for moved < TurnBytes {
		n, err := unix.Splice(pipe, nil, s.fd, &s.End, TurnBytes-moved, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) || err == nil && n == 0 {
			return moved, nil
		}
		if err != nil {
			return moved, fmt.Errorf("splice log pipe %s: %w", s.Source, err)
		}
		moved += int(n)
	}
	return moved, nil
}

// A Sink takes the lines of a spool.
type Sink interface {
	// Line takes one; cursor is behind it.
	Line(l Line, cursor int64) error
	// Discard may pass over whole lines at the beginning of b: it returns their bytes.
	Discard(b []byte) int
}

// Lines hands the spool's whole lines to to and moves the cursor over those that it accepted; buf is scratch memory of
// at least one line and a half. An error is to's or the file's; the line it came for stays.
func (s *Spool) Lines(buf []byte, flush bool, to Sink) error {
	control := s.Source.Kind == pipe.Service
	for s.Cursor < s.End {
		if s.scanned > s.Cursor && !flush && s.End-s.Cursor <= entry.MaxMessage {
			found, err := s.scan(buf)
			if !found || err != nil {
				return err
			}
		}
		n, err := s.read(buf, s.Cursor)
		if err != nil {
			return err
		}
		b := buf[:n]
		last := s.Cursor+int64(n) == s.End
		for {
			if n := to.Discard(b); n > 0 {
				s.Cursor += int64(n)
				b = b[n:]
			}
			l, ok := nextLine(b, flush && last, control)
			if !ok {
				break
			}
			if err := to.Line(l, s.Cursor+int64(l.Size)); err != nil {
				return err
			}
			s.Cursor += int64(l.Size)
			b = b[l.Size:]
		}
		if s.scanned = s.Cursor + int64(len(b)); last {
			return nil
		}
	}
	return nil
}

// scan looks for a line end in what has come since the last time, so that a program which writes a line byte by byte
// does not make us read it from its beginning each time.
func (s *Spool) scan(buf []byte) (found bool, err error) {
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

func (s *Spool) read(buf []byte, at int64) (int, error) {
	n, err := unix.Pread(s.fd, buf[:min(int64(len(buf)), s.End-at)], at)
	if err == nil && n == 0 {
		err = errors.New("file became shorter")
	}
	if err != nil {
		return 0, fmt.Errorf("read log spool %s: %w", s.Source, err)
	}
	return n, nil
}

// Punch gives back the memory behind the cursor, which must have been committed: all of it when nothing is unread, else
// in large pieces. A page that the next splice goes on in may be punched too: it comes back with zeros in front.
func (s *Spool) Punch() error {
	from, upto := s.punched&^(pageSize-1), s.Cursor&^(pageSize-1)
	switch {
	case s.Cursor == s.punched:
		return nil
	case s.Cursor == s.End:
		upto = (s.End + pageSize - 1) &^ (pageSize - 1)
	case upto-from < TurnBytes:
		return nil
	}
	err := unix.Fallocate(s.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, upto-from)
	if err != nil {
		return fmt.Errorf("punch log spool %s: %w", s.Source, err)
	}
	s.punched = min(s.Cursor, upto)
	return nil
}
