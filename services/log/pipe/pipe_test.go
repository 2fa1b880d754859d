package pipe

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseName(t *testing.T) {
	good := map[string]Source{
		"service.init.log":           {Service, "init", Log},
		"service.net-d_2.stdout":     {Service, "net-d_2", Stdout},
		"container.hello.web.stderr": {Container, "hello.web", Stderr},
		"container.hello.web.2.log":  {Container, "hello.web.2", Log},
		"container.a.stdout":         {Container, "a", Stdout},
		"container.a.b.c.d.stdout":   {Container, "a.b.c.d", Stdout},
		"service.a.b.log":            {Service, "a.b", Log},
		"container.log.stdout.log":   {Container, "log.stdout", Log},
	}
	for file, want := range good {
		got, err := ParseName(file)
		if err != nil || got != want {
			t.Errorf("ParseName(%q) = %+v, %v, want %+v", file, got, err, want)
		}
		if got.String() != file {
			t.Errorf("ParseName(%q).String() = %q", file, got)
		}
	}
	bad := []string{"", ".", "..", "...", "service.log", "service..log", "service.Init.log", "service.-a.log",
		"service...log", "service.../../etc/x.log", "service.a\x00.log", "service.a\n.log", "service.ä.log",
		"kernel.a.log", "container.a._b.stdout", "container.a.b..log", "container..b.stdout", "container.a.-.log",
		"service.a.output", "service.a/b.log", "service." + strings.Repeat("a", 201) + ".log",
		"container" + strings.Repeat(".a", 101) + ".log"}
	for _, file := range bad {
		if got, err := ParseName(file); err == nil {
			t.Errorf("ParseName(%q) = %+v, want an error", file, got)
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("service.init.log")
	f.Add("container.hello.web.stdout")
	f.Fuzz(func(t *testing.T, file string) {
		s, err := ParseName(file)
		if err == nil && (s.String() != file || filepath.Base(Path("/x", s)) != file) {
			t.Errorf("ParseName(%q) = %+v, which is named %q", file, s, s)
		}
		if err == nil && (len(file) > 255 || strings.ContainsAny(file, "/\x00\n ") || strings.Contains(file, "..")) {
			t.Errorf("ParseName(%q) accepts it", file)
		}
	})
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	s := Source{Service, "a", Stdout}
	first, err := Open(dir, s)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if flags, _ := unix.FcntlInt(first.Fd(), unix.F_GETFL, 0); flags&unix.O_NONBLOCK != 0 {
		t.Error("Open gave a non-blocking file; a service would lose output")
	}
	if size, _ := unix.FcntlInt(first.Fd(), unix.F_GETPIPE_SZ, 0); size != pipeSize {
		t.Errorf("pipe holds %d bytes, want %d", size, pipeSize)
	}
	if _, err := first.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	second, err := OpenNonblock(dir, s)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	buf := make([]byte, 10)
	if n, err := second.Read(buf); err != nil || string(buf[:n]) != "hello" {
		t.Errorf("Read = %q, %v", buf[:n], err)
	}
}

func TestOpenFaults(t *testing.T) {
	dir := t.TempDir()
	s := Source{Service, "a", Stdout}
	if err := os.WriteFile(Path(dir, s), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, s); err == nil || !strings.Contains(err.Error(), "not a named pipe") {
		t.Errorf("Open of a plain file: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "missing"), s); err == nil {
		t.Error("Open in a missing directory succeeded")
	}
	if _, err := Open(dir, Source{Service, "../a", Stdout}); err == nil {
		t.Error("Open outside the directory succeeded")
	}
}

func TestWriterNeverBlocks(t *testing.T) {
	dir := t.TempDir()
	file, err := OpenNonblock(dir, Source{Service, "init", Log})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := NewWriter(file)
	const lines = 10_000
	for i := range lines {
		fmt.Fprintf(w, "line %05d %s\n", i, strings.Repeat("x", 80))
	}
	got := drain(t, file)
	kept := bytes.Count(got, []byte("\n"))
	if kept == 0 || kept >= lines || got[len(got)-1] != '\n' {
		t.Fatalf("kept %d of %d lines", kept, lines)
	}
	fmt.Fprint(w, "after\n")
	want := fmt.Sprintf("<4>log pipe was full: %d writes dropped\nafter\n", lines-kept)
	if got := drain(t, file); string(got) != want {
		t.Errorf("after the pause: %q, want %q", got, want)
	}
	fmt.Fprint(w, strings.Repeat("y", 3*pipeBuf))
	if got := drain(t, file); len(got) != pipeBuf || got[pipeBuf-1] != '\n' {
		t.Errorf("a long write gave %d bytes", len(got))
	}
}

func drain(t *testing.T, file *os.File) []byte {
	t.Helper()
	buf := make([]byte, 2*pipeSize)
	total := 0
	for {
		n, err := unix.Read(int(mustFd(t, file)), buf[total:])
		if err == unix.EAGAIN {
			return buf[:total]
		}
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
}

func mustFd(t *testing.T, file *os.File) (fd uintptr) {
	t.Helper()
	conn, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Control(func(f uintptr) { fd = f }); err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestPID(t *testing.T) {
	if got := string(AppendPID([]byte("x"), 123)); got != "x\x01pid 123\n" {
		t.Errorf("AppendPID gave %q", got)
	}
	for _, test := range []struct {
		line    string
		at, pid int
		ok      bool
	}{
		{"\x01pid 123", 0, 123, true},
		{"left over\x01pid 4194304", 9, 4194304, true},
		{"\x01\x01pid 1", 1, 1, true},
		{"\x01pid ", 0, 0, false}, {"\x01pid x", 0, 0, false}, {"\x01pid +1", 0, 0, false}, {"\x01pid 99999999999", 0,
			0, false},
		{"pid 1", 0, 0, false}, {"", 0, 0, false}, {"\x01pid 1 and more", 0, 0, false},
	} {
		at, pid, ok := FindPID([]byte(test.line))
		if ok != test.ok || ok && (at != test.at || pid != test.pid) {
			t.Errorf("FindPID(%q) = %d, %d, %v", test.line, at, pid, ok)
		}
	}
}

func FuzzFindPID(f *testing.F) {
	f.Add([]byte("x\x01pid 7"))
	f.Fuzz(func(t *testing.T, line []byte) {
		at, pid, ok := FindPID(line)
		if ok && (at < 0 || at >= len(line) || pid < 0) {
			t.Errorf("FindPID(%q) = %d, %d", line, at, pid)
		}
	})
}
