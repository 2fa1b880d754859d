package scp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// source sends files.
type source struct {
	*peer
	options
}

func (s *source) run() error {
	if ok, err := s.answer(); err != nil || !ok {
		return err
	}
	for _, path := range s.paths {
		if err := s.give(path, 0); err != nil {
			return err
		}
	}
	return nil
}

// give sends one file or directory. The error ends the copy; the client is informed of one that affects only this file.
func (s *source) give(path string, depth int) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // must not wait for a FIFO that nobody writes to
	if err != nil {
		return s.complain(err)
	}
	defer f.Close() // nothing was written
	info, err := f.Stat()
	name := filepath.Base(path)
	switch {
	case err != nil:
		return s.complain(err)
	case strings.ContainsAny(name, "\n\r"):
		return s.complain(fmt.Errorf("%q: the protocol has no such names", path))
	case info.IsDir() && s.recursive && depth < maxDepth:
		return s.directory(f, path, info, depth)
	case !info.Mode().IsRegular():
		return s.complain(fmt.Errorf("%s: not a regular file", path))
	}
	if ok, err := s.announce('C', info, info.Size(), name); err != nil || !ok {
		return err
	}
	return s.content(f, info.Size())
}

// announce sends the line of a file or directory, after its times if they are to be preserved.
func (s *source) announce(kind byte, info os.FileInfo, size int64, name string) (ok bool, err error) {
	if s.times {
		at := info.ModTime().Unix()
		if _, err := fmt.Fprintf(s.out, "T%d 0 %d 0\n", at, at); err != nil {
			return false, err
		}
		if ok, err := s.answer(); err != nil || !ok {
			return ok, err
		}
	}
	if _, err := fmt.Fprintf(s.out, "%c%04o %d %s\n", kind, info.Mode().Perm(), size, name); err != nil {
		return false, err
	}
	return s.answer()
}

// content sends exactly size bytes, as announced. If the file has become shorter it sends zeros, and then the error.
func (s *source) content(f *os.File, size int64) error {
	sent, fault := io.CopyN(s.out, f, size)
	if fault == io.EOF {
		fault = fmt.Errorf("%s: became shorter while it was read", f.Name())
	}
	for zeroes := make([]byte, 4096); sent < size; {
		n, err := io.Copy(s.out, bytes.NewReader(zeroes[:min(int64(len(zeroes)), size-sent)]))
		if sent += n; err != nil {
			return errors.Join(fault, err) // the client failed
		}
	}
	if fault != nil {
		if err := s.complain(fault); err != nil {
			return err
		}
	} else if err := s.good(); err != nil {
		return err
	}
	_, err := s.answer()
	return err
}

func (s *source) directory(f *os.File, path string, info os.FileInfo, depth int) error {
	name := filepath.Base(path)
	if name == "/" || name == "." || name == ".." { // these are not names of a file within the target
		whole, err := filepath.Abs(path)
		if name = filepath.Base(whole); err != nil || name == "/" {
			return s.complain(fmt.Errorf("%s: has no name", path))
		}
	}
	if ok, err := s.announce('D', info, 0, name); err != nil || !ok {
		return err
	}
	entries, err := f.ReadDir(-1)
	if err != nil {
		if err := s.complain(err); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if err := s.give(filepath.Join(path, e.Name()), depth+1); err != nil {
			return err
		}
	}
	if _, err := s.out.WriteString("E\n"); err != nil {
		return err
	}
	_, err = s.answer()
	return err
}
