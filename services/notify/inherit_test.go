package notify

import (
	"os"
	"slices"
	"testing"
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
		{"8", "1", "a", nil}, {"7", "x", "a", nil}, {"7", "-1", "a", nil}, {"7", "99999999", "a", nil}, {"", "", "", nil},
	} {
		env := map[string]string{"LISTEN_PID": test.pid, "LISTEN_FDS": test.fds, "LISTEN_FDNAMES": test.names}
		if got := FromParent(func(name string) string { return env[name] }, 7); !slices.Equal(got, test.want) {
			t.Errorf("%+v gave %v", test, got)
		}
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
