package syslog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"<14>Nov 25 04:20:28 sshd[512]: Accepted", "6 user sshd|Accepted"},
		{"<85>Nov  5 04:20:28 sudo: root : TTY=pts/0\n", "5 authpriv sudo|root : TTY=pts/0"},
		{"<30>Nov 25 04:20:28 my.app@2/x-y_z:", "6 daemon my.app@2/x-y_z|"},
		{"<11>just text\x00", "3 user user|just text"},
		{"<14>python: hello", "6 user python|hello"},
		{"<14>see http://example.org/", "6 user user|see http://example.org/"},
		{"<14>http://example.org/", "6 user user|http://example.org/"},
		{"no pri", "5 user user|no pri"},
		{"<192>too much", "5 user user|<192>too much"},
		{"<>x", "5 user user|<>x"},
		{"<14x>y", "5 user user|<14x>y"},
		{"<14>Nov 25 04:20:28", "6 user user|Nov 25 04:20:28"},
		{"<14>Nov 25 04:20:28 [7]: x", "6 user user|[7]: x"},
		{"<14>tag[7: x", "6 user user|tag[7: x"},
		{"<14>" + strings.Repeat("t", 60) + ": x", "6 user user|" + strings.Repeat("t", 60) + ": x"},
		{"<165>1 2026-11-25T10:00:00.003Z host app 8710 ID47 - \xef\xbb\xbfhello", "5 local4 app|hello"},
		{`<165>1 2026-11-25T10:00:00Z host app - - [a@1 k="v\"]"][b] hello ]`, "5 local4 app|hello ]"},
		{"<165>1 - - - - - -", "5 local4 user|"},
		{"<165>1 2026-11-25T10:00:00Z host app 1 - [open", "5 local4 user|1 2026-11-25T10:00:00Z host app 1 - [open"},
		{"<14>1 apple is left for us all", "6 user user|1 apple is left for us all"},
		{"", "5 user user|"},
		{"<7>bin\x00\xff\x1b", "7 kern user|bin\x00\xff\x1b"},
	} {
		m := Parse([]byte(test.in))
		if got := fmt.Sprintf("%d %s %s|%s", m.Priority, m.Facility, m.Tag, m.Text); got != test.want {
			t.Errorf("Parse(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, in := range []string{"<14>Nov 25 04:20:28 sshd[512]: x",
		"<165>1 2026-11-25T10:00:00Z h a 1 i [a b=\"c\\]\"] x", "<14>a: b", "x"} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := Parse(b)
		if m.Priority < 0 || m.Priority > 7 || m.Facility == "" || m.Tag == "" || len(m.Tag) > maxTag ||
			len(m.Text) > len(b) {
			t.Errorf("Parse(%q) = %+v", b, m)
		}
		for i := range len(m.Tag) {
			if !inTag(m.Tag[i]) {
				t.Errorf("Parse(%q) has the tag %q", b, m.Tag)
			}
		}
	})
}

// The stamp is there whenever a message was sent, stays while it is looked at, and tells messages apart.
func TestStampStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	out, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(out)
	send := func(text string) {
		t.Helper()
		if err := unix.Sendto(out, []byte(text), 0, &unix.SockaddrUnix{Name: path}); err != nil {
			t.Fatal(err)
		}
	}
	send("before anybody adopts")
	send("before anybody adopts")
	seen := map[int64]string{}
	for life, want := range []string{"before anybody adopts", "before anybody adopts", "after"} {
		own, err := unix.Dup(fd)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Adopt(own)
		if err != nil {
			t.Fatal(err)
		}
		if life == 0 {
			send("after")
		}
		d, err := s.Peek()
		if err != nil || string(d.Text) != want || d.Stamp < 1e18 || seen[d.Stamp] != "" {
			t.Fatalf("%q, stamp %d, %v, want %q", d.Text, d.Stamp, err, want)
		}
		if want == "after" && d.PID != os.Getpid() {
			t.Errorf("pid %d, want %d", d.PID, os.Getpid())
		}
		seen[d.Stamp] = want
		s.Close()
		// The next life sees the same, then takes it away.
		again, _ := unix.Dup(fd)
		if s, err = Adopt(again); err != nil {
			t.Fatal(err)
		}
		if same, err := s.Peek(); err != nil || same.Stamp != d.Stamp {
			t.Errorf("stamp %d, then %d, %v", d.Stamp, same.Stamp, err)
		}
		if err := s.Drop(); err != nil {
			t.Error(err)
		}
		s.Close()
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("stale"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Peek(); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("nothing sent: %v", err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", st, err)
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	out, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	defer unix.Close(out)
	to := &unix.SockaddrUnix{Name: path}
	// A stranger passes a descriptor along, and more than is kept.
	if err := unix.Sendmsg(out, []byte(strings.Repeat("x", MaxText+1)), unix.UnixRights(int(file.Fd())), to,
		0); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	d, err := s.Peek()
	if err != nil || len(d.Text) != MaxText || !d.Cut || d.PID != os.Getpid() {
		t.Errorf("%d bytes, cut %v, pid %d, %v", len(d.Text), d.Cut, d.PID, err)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, then %d", before, after)
	}
	if err := s.Drop(); err != nil {
		t.Error(err)
	}
	if err := unix.Sendto(out, nil, 0, to); err != nil {
		t.Fatal(err)
	}
	if d, err := s.Peek(); err != nil || len(d.Text) != 0 || d.Cut {
		t.Errorf("an empty message: %+v, %v", d, err)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
