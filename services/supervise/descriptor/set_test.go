package descriptor

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"resinos/services/notify"
	"resinos/services/spec"
	"resinos/services/supervise/savedstate"
)

// opened returns n open files.
func opened(t *testing.T, n int) (files []*os.File) {
	t.Helper()
	for range n {
		f, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		files = append(files, f)
	}
	return files
}

func isOpen(f *os.File) bool {
	_, err := f.Stat()
	return err == nil
}

// TestStore: a service leaves no more than its limit, and whatever is not kept is closed.
func TestStore(t *testing.T) {
	var s Set
	f := opened(t, 5)
	if refused := s.Store(notify.Message{FDStore: true, FDName: "a"}, f[:2], 3); refused != 0 {
		t.Errorf("%d of 2 are refused", refused)
	}
	if refused := s.Store(notify.Message{FDStore: true}, f[2:4], 3); refused != 1 || s.Stored() != 3 || isOpen(f[3]) {
		t.Errorf("%d of 2 are refused, %d stored", refused, s.Stored())
	}
	if refused := s.Store(notify.Message{Ready: true}, f[4:], 9); refused != 0 || isOpen(f[4]) {
		t.Error("a file of a message that does not ask to store it is kept")
	}
	g := s.Inherited(&spec.Spec{Name: "x"})
	if !slices.Equal(g.Names, []string{"a", "a", "stored"}) || !slices.Equal(g.Files, f[:3]) {
		t.Errorf("inherited: %+v", g)
	}
	s.Store(notify.Message{FDStore: true, FDRemove: true, FDName: "a"}, nil, 3)
	if s.Stored() != 1 || isOpen(f[0]) || isOpen(f[1]) || !isOpen(f[2]) {
		t.Errorf("%d stored after the removal of a", s.Stored())
	}
	s.CloseStored()
	if s.Stored() != 0 || isOpen(f[2]) {
		t.Error("a stored file is open after Close")
	}
}

// TestListen: the sockets are opened once, named for the process, and closed with their path.
func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	sp := &spec.Spec{Name: "web"}
	sp.Listen = spec.Listen{Sockets: []spec.Socket{{Network: "unix", Address: path}}, Mode: 0o600}
	var s Set
	for range 2 {
		if err := s.Listen(sp); err != nil || len(s.Sockets) != 1 {
			t.Fatalf("%d sockets, %v", len(s.Sockets), err)
		}
	}
	if g := s.Inherited(sp); !slices.Equal(g.Names, []string{"web"}) {
		t.Errorf("inherited: %+v", g)
	}
	s.CloseSockets(sp.Listen)
	if _, err := os.Lstat(path); err == nil || s.Sockets != nil {
		t.Errorf("after closing: %v, %v", s.Sockets, err)
	}
}

// TestRestore: what Save wrote, Restore takes over; a position that is missing is an error.
func TestRestore(t *testing.T) {
	var s Set
	s.Sockets = opened(t, 1)
	s.Store(notify.Message{FDStore: true, FDName: "a"}, opened(t, 2), 2)
	defer s.CloseStored()
	var out savedstate.Service
	var files savedstate.Files
	s.Save(&out, &files)
	var numbers savedstate.Descriptors
	for _, f := range files {
		fd, err := syscall.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, fd)
	}
	var again Set
	err := again.Restore(&out, numbers)
	if err != nil || len(again.Sockets) != 1 || again.Stored() != 2 {
		t.Fatalf("restored %+v, %v", again, err)
	}
	again.CloseStored()
	for _, f := range again.Sockets {
		f.Close()
	}
	stored := []savedstate.File{{File: 9}}
	for _, bad := range []savedstate.Service{{Sockets: []int{0}}, {Stored: stored}} {
		if err := new(Set).Restore(&bad, numbers); err == nil {
			t.Errorf("%+v is restored from descriptors that were taken", bad)
		}
	}
}
