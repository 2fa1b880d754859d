package logd

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// folderEvent is one event of an inotify watch on a folder.
type folderEvent struct {
	mask uint32
	name string
}

// parseInotify decodes what read(2) gives for an inotify descriptor: struct inotify_event, then the name with zeros
// behind it. A cut event ends the list.
func parseInotify(b []byte) []folderEvent {
	var list []folderEvent
	for len(b) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(b[4:])
		size := binary.NativeEndian.Uint32(b[12:])
		if b = b[unix.SizeofInotifyEvent:]; uint64(size) > uint64(len(b)) {
			break
		}
		name, _, _ := bytes.Cut(b[:size], []byte{0})
		list = append(list, folderEvent{mask: mask, name: string(name)})
		b = b[size:]
	}
	return list
}
