package hold

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFileIsUnknownToThePoller(t *testing.T) {
	for _, flags := range []int{unix.O_CLOEXEC, unix.O_CLOEXEC | unix.O_NONBLOCK, 0} {
		var p [2]int
		if err := unix.Pipe2(p[:], flags); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(p[1])
		f, err := File(p[0], "pipe")
		if err != nil {
			t.Fatalf("File with flags %#x: %v", flags, err)
		}
		defer f.Close()
		// Only what the poller knows has deadlines.
		if err := f.SetReadDeadline(time.Time{}); !errors.Is(err, os.ErrNoDeadline) {
			t.Errorf("flags %#x: SetReadDeadline gives %v, want %v", flags, err, os.ErrNoDeadline)
		}
		got, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
		if err != nil || got&unix.O_NONBLOCK != flags&unix.O_NONBLOCK {
			t.Errorf("flags %#x become %#x, %v", flags, got, err)
		}
		if got, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || got&unix.FD_CLOEXEC == 0 {
			t.Errorf("flags %#x: not closed on exec: %#x, %v", flags, got, err)
		}
		if _, err := unix.Write(p[1], []byte("x")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		if n, err := f.Read(b); n != 1 || err != nil {
			t.Errorf("flags %#x: read %d, %v", flags, n, err)
		}
	}
}

func TestFileOfNothing(t *testing.T) {
	if f, err := File(1<<20, "none"); err == nil {
		f.Close()
		t.Error("a descriptor that is not open can be held")
	}
}

func TestFileLosesNone(t *testing.T) {
	before := open(t)
	for range 20 {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
		for _, fd := range p {
			f, err := File(fd, "pipe")
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
	}
	if after := open(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func open(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
