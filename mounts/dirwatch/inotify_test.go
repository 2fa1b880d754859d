package dirwatch

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// raw is an inotify event as the kernel writes it.
func raw(wd int32, mask uint32, name string, size int) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(wd))
	b = binary.NativeEndian.AppendUint32(b, mask)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = binary.NativeEndian.AppendUint32(b, uint32(size))
	return append(append(b, name...), make([]byte, size-len(name))...)
}

func TestParseEvents(t *testing.T) {
	data := append(append(raw(3, unix.IN_CREATE, "name", 16), raw(-1, unix.IN_Q_OVERFLOW, "", 0)...),
		raw(4, 1, "cut", 16)[:20]...)
	got := ParseEvents(data)
	if want := []Event{{3, unix.IN_CREATE, "name"}, {-1, unix.IN_Q_OVERFLOW, ""}}; !reflect.DeepEqual(got, want) {
		t.Errorf("ParseEvents gives %+v, want %+v", got, want)
	}
}

func FuzzParseEvents(f *testing.F) {
	f.Add(raw(3, unix.IN_CREATE, "name", 16))
	f.Add(append(raw(1, 2, "", 0), 1, 2, 3))
	f.Add([]byte(strings.Repeat("\xff", 40)))
	f.Fuzz(func(t *testing.T, data []byte) {
		list := ParseEvents(data)
		for _, ev := range list {
			if strings.ContainsRune(ev.Name, 0) {
				t.Errorf("name %q", ev.Name)
			}
		}
		if len(list) > len(data)/unix.SizeofInotifyEvent {
			t.Errorf("%d events in %d bytes", len(list), len(data))
		}
	})
}

// TestInotify: two places with one instance, each known by its number, until one is removed.
func TestInotify(t *testing.T) {
	i, err := NewInotify()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	dirs := []string{t.TempDir(), t.TempDir()}
	watches := make([]int32, len(dirs))
	for n, dir := range dirs {
		if watches[n], err = i.Add(dir, mask); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := i.Add(filepath.Join(dirs[0], "none"), mask); !errors.Is(err, fs.ErrNotExist) || Scarce(err) {
		t.Errorf("a place that is not there: %v", err)
	}
	buf := make([]byte, 4096)
	if got := i.Read(buf); got != nil {
		t.Errorf("before a change: %v", got)
	}
	create := func(name string) {
		for _, dir := range dirs {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	create("a")
	want := []Event{{watches[0], unix.IN_CREATE, "a"}, {watches[1], unix.IN_CREATE, "a"}}
	if got := i.Read(buf); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
	i.Remove(watches[0])
	create("b")
	want = []Event{{watches[0], unix.IN_IGNORED, ""}, {watches[1], unix.IN_CREATE, "b"}}
	if got := i.Read(buf); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}
