package notify

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

func TestFromParent(t *testing.T) {
	for _, test := range []struct {
		pid, fds, names string
		want            []Inherited
	}{
		{"7", "1", "dev-log", []Inherited{{3, "dev-log"}}},
		{"7", "3", "a:dev-log:b", []Inherited{{3, "a"}, {4, "dev-log"}, {5, "b"}}},
		{"7", "2", "a", []Inherited{{3, "a"}, {4, ""}}},
		{"7", "1", "", []Inherited{{3, ""}}},
		{"7", "1", "a:b", []Inherited{{3, "a"}}},
		{"8", "1", "a", nil}, {"7", "x", "a", nil}, {"7", "-1", "a", nil}, {"7", "99999999", "a", nil},
		{"", "", "", nil},
	} {
		env := map[string]string{"LISTEN_PID": test.pid, "LISTEN_FDS": test.fds, "LISTEN_FDNAMES": test.names}
		if got := FromParent(func(name string) string { return env[name] }, 7); !slices.Equal(got, test.want) {
			t.Errorf("%+v gave %v", test, got)
		}
	}
}

// TestSettle: it waits for the parent, and no longer than it is told.
func TestSettle(t *testing.T) {
	t.Setenv(Variable, "")
	if err := Settle(0); err != nil {
		t.Errorf("without a parent: %v", err)
	}
	path, got := listening(t)
	t.Setenv(Variable, path)
	for _, send := range []func() error{Ready, func() error { return Drop("dev-log") },
		func() error { return Settle(testenv.Patience()) }} {
		if err := send(); err != nil {
			t.Fatal(err)
		}
	}
	if first, second := <-got, <-got; !first.message.Ready || !second.message.FDRemove ||
		second.message.FDName != "dev-log" {
		t.Errorf("got %+v, %+v", first, second)
	}
	deaf := t.TempDir() + "/deaf"
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: deaf})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(Variable, deaf)
	if err := Settle(time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a parent that takes nothing: %v", err)
	}
}

func TestKeep(t *testing.T) {
	path, got := listening(t)
	t.Setenv(Variable, path)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := Keep("dev-log", int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	w.Close()
	m := <-got
	if m.err != nil || !m.message.FDStore || m.message.FDName != "dev-log" || len(m.files) != 1 {
		t.Fatalf("received %+v", m)
	}
	defer m.files[0].Close()
	if _, err := m.files[0].WriteString("x"); err != nil {
		t.Errorf("write to what was kept: %v", err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 1 {
		t.Errorf("read %d, %v", n, err)
	}
}
