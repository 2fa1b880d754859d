package demand

import (
	"bytes"
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"
)

// event is one struct inotify_event.
type event struct {
	wd   int32
	mask uint32
	name string // empty for the watched file itself
}

// parseEvents decodes what read(2) returns for an inotify descriptor. An incomplete event ends the list.
func parseEvents(b []byte, each func(event)) {
	for len(b) >= unix.SizeofInotifyEvent {
		ev := event{wd: int32(binary.NativeEndian.Uint32(b)), mask: binary.NativeEndian.Uint32(b[4:])}
		size := binary.NativeEndian.Uint32(b[12:])
		if b = b[unix.SizeofInotifyEvent:]; uint64(size) > uint64(len(b)) {
			return
		}
		name, _, _ := bytes.Cut(b[:size], []byte{0}) // padded with zeros
		ev.name = string(name)
		b = b[size:]
		each(ev)
	}
}

// quiet determines when to answer a series of changes: quietFor after the last one, and never later than quietMost
// after the first. The zero quiet has seen no change.
type quiet struct{ first, last time.Time }

const (
	quietFor  = 50 * time.Millisecond
	quietMost = 500 * time.Millisecond
)

func (q *quiet) note(now time.Time) {
	if q.first.IsZero() {
		q.first = now
	}
	q.last = now
}

func (q quiet) due() time.Time {
	due, latest := q.last.Add(quietFor), q.first.Add(quietMost)
	if latest.Before(due) {
		return latest
	}
	return due
}
