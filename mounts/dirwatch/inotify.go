package dirwatch

import (
	"bytes"
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// Inotify is the descriptor of an inotify instance. It is for those who watch several places with one instance, or wait
// for it in an epoll of their own; who watches one directory uses Watch. The descriptor belongs to the caller, who
// closes it. While inotify is used up, such a user looks at its places by itself at intervals: only it knows which of
// them matter, and when it has seen a change.
type Inotify int

// NewInotify opens an instance that is closed on exec and never blocks. The error is Scarce while inotify is used up.
func NewInotify() (Inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	return Inotify(fd), os.NewSyscallError("inotify_init1", err)
}

// Add watches path for the events in mask, the IN_ constants of inotify(7), and returns the number of the watch. The
// error is Scarce while inotify is used up.
func (i Inotify) Add(path string, mask uint32) (watch int32, err error) {
	wd, err := unix.InotifyAddWatch(int(i), path, mask)
	return int32(wd), os.NewSyscallError("inotify_add_watch", err)
}

// Remove ends a watch, which the kernel may have removed with its file.
func (i Inotify) Remove(watch int32) { _, _ = unix.InotifyRmWatch(int(i), uint32(watch)) }

// Read returns the events that wait and fit into buf; nil if there are none.
func (i Inotify) Read(buf []byte) []Event {
	n, err := unix.Read(int(i), buf)
	if err != nil {
		return nil // EAGAIN: that was all
	}
	return ParseEvents(buf[:n])
}

// Close ends all watches.
func (i Inotify) Close() { unix.Close(int(i)) } // nothing is buffered

// Event is one struct inotify_event.
type Event struct {
	Watch int32
	Mask  uint32
	Name  string // empty for the watched file itself
}

// ParseEvents decodes what read(2) returns for an inotify descriptor. An incomplete event ends the list.
func ParseEvents(b []byte) (list []Event) {
	for len(b) >= unix.SizeofInotifyEvent {
		ev := Event{Watch: int32(binary.NativeEndian.Uint32(b)), Mask: binary.NativeEndian.Uint32(b[4:])}
		size := binary.NativeEndian.Uint32(b[12:])
		if b = b[unix.SizeofInotifyEvent:]; uint64(size) > uint64(len(b)) {
			break
		}
		name, _, _ := bytes.Cut(b[:size], []byte{0}) // padded with zeros
		ev.Name = string(name)
		b = b[size:]
		list = append(list, ev)
	}
	return list
}
