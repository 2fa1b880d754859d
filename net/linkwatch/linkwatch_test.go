package linkwatch

import (
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// notice builds one netlink message of a kind about a link.
func notice(kind uint16, index uint32, extra int) []byte {
	p := make([]byte, unix.SizeofNlMsghdr+8+extra)
	binary.NativeEndian.PutUint32(p, uint32(len(p)))
	binary.NativeEndian.PutUint16(p[4:], kind)
	binary.NativeEndian.PutUint32(p[unix.SizeofNlMsghdr+4:], index)
	return append(p, make([]byte, -len(p)&3)...)
}

func TestIndexes(t *testing.T) {
	var all []byte
	for _, p := range [][]byte{
		notice(unix.RTM_NEWLINK, 2, 100), notice(unix.RTM_NEWADDR, 2, 0), notice(unix.NLMSG_DONE, 9, 0),
		notice(unix.RTM_DELADDR, 3, 13), notice(unix.RTM_DELLINK, 4, 0),
	} {
		all = append(all, p...)
	}
	if got := indexes(all); !slices.Equal(got, []int{2, 3, 4}) {
		t.Errorf("indexes = %v, want 2 3 4", got)
	}
}

func FuzzIndexes(f *testing.F) {
	f.Add(notice(unix.RTM_NEWLINK, 2, 5))
	f.Add([]byte{255, 255, 255, 255, 16, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		if got := indexes(p); len(got) > len(p)/(unix.SizeofNlMsghdr+8) {
			t.Fatalf("%d indexes in %d bytes", len(got), len(p))
		}
	})
}
