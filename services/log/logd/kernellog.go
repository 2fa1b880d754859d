package logd

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/log/entry"
	"resinos/services/log/kmsg"
	"resinos/services/log/ring"
)

const (
	// kernelTurn is the limit on records that one turn reads from the kernel's log.
	kernelTurn = 64
	// maxTags bounds the names that processes can give themselves in the kernel's log.
	maxTags = 32

	kernelName = "kernel"
	userName   = "user" // of lines by processes without a tag
	kmsgStream = "kmsg"
)

// A kernelLog reads /dev/kmsg. The kernel keeps the records and numbers them, so the number is the cursor and no spool
// is needed.
type kernelLog struct {
	fd   int
	next uint64 // number of the record wanted next
	tags map[string]bool
	buf  []byte
	held int // bytes in buf of a record that is not in the ring yet, which had no room for it
}

// openKernelLog opens the kernel's log after the newest record that the ring holds.
func openKernelLog(path string, to *ring.Ring) (*kernelLog, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open kernel log", Path: path, Err: err}
	}
	k := &kernelLog{fd: fd, tags: map[string]bool{}, buf: make([]byte, 8<<10)} // a record has at most 8 KiB
	for _, s := range to.Sources() {
		if s.Kind == entry.Kernel {
			k.next = max(k.next, uint64(to.Mark(s).Cursor))
			k.tags[s.Name] = true
		}
	}
	return k, nil
}

func (k *kernelLog) close() { unix.Close(k.fd) }

// turn moves some records into the ring. A record that the ring does not take is held for the next turn.
func (k *kernelLog) turn(to *ring.Ring, clock ring.Clock) error {
	wall, boottime := clock()
	for range kernelTurn {
		n, err := k.held, error(nil)
		if n == 0 {
			n, err = unix.Read(k.fd, k.buf)
		}
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		// EPIPE: records were overwritten, the next has a gap before it
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EPIPE):
			continue
		case errors.Is(err, unix.EINVAL):
			return nil // the record is longer than buf, which the kernel does not make
		case err != nil:
			return fmt.Errorf("read kernel log: %w", err)
		case n == 0:
			return errors.New("read kernel log: end of file")
		}
		r, err := kmsg.Parse(k.buf[:n])
		if err != nil || r.Seq < k.next {
			continue // an earlier life has written it, or it does not parse
		}
		k.held = n
		if err := k.add(to, r, wall.Add(r.At-boottime)); err != nil {
			return err
		}
		k.held = 0
	}
	return nil
}

// add appends one record, after an entry about the records that are missing before it.
func (k *kernelLog) add(to *ring.Ring, r kmsg.Record, wall time.Time) error {
	e := entry.Entry{
		Kind: entry.Kernel, Name: kernelName, Stream: kmsgStream, Time: wall, Boottime: r.At,
	}
	if lost := r.Seq - k.next; lost > 0 && k.next > 0 {
		e.Priority = 4
		if err := to.Append(&e, fmt.Appendf(nil, "%d kernel records were overwritten before they were read", lost),
			int64(r.Seq)); err != nil {
			return err
		}
		k.next = r.Seq
	}
	e.Priority, e.PID = r.Priority, r.PID
	if r.Facility != 0 {
		e.Name = k.name(r.Tag)
		if e.Name == userName && r.Tag != "" {
			r.Message = fmt.Appendf(nil, "%s: %s", r.Tag, r.Message)
		}
	}
	if err := to.Append(&e, r.Message, int64(r.Seq)+1); err != nil {
		return err
	}
	k.next = r.Seq + 1
	return nil
}

// name returns the tag as the name of the source, or userName for new tags above maxTags.
func (k *kernelLog) name(tag string) string {
	if tag == "" || !k.tags[tag] && len(k.tags) >= maxTags {
		return userName
	}
	k.tags[tag] = true
	return tag
}
