package notify

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Message{
		"":                                {},
		"READY=1":                         {Ready: true},
		"READY=1\nSTATUS=two words\n":     {Ready: true, Status: "two words", HasStatus: true},
		"STATUS=":                         {HasStatus: true},
		"STATUS=a\x1b[2Jb\xffc":           {Status: "a?[2Jb?c", HasStatus: true},
		"STOPPING=1\nRELOADING=1":         {Stopping: true, Reloading: true},
		"WATCHDOG=1":                      {Watchdog: true},
		"WATCHDOG=trigger":                {Trigger: true},
		"FDSTORE=1\nFDNAME=a.b\nFDPOLL=0": {FDStore: true, FDName: "a.b"},
		"FDSTOREREMOVE=1\nFDNAME=x":       {FDRemove: true, FDName: "x"},
		"BARRIER=1":                       {Barrier: true},
		"MONOTONIC_USEC=5\nERRNO=2\nBUSERROR=a.b\nEXIT_STATUS=3\nNOTIFYACCESS=all": {},
		"MAINPID=42":                  {MainPID: 42},
		"EXTEND_TIMEOUT_USEC=1500000": {Extend: 1500 * time.Millisecond},
	} {
		got, err := Parse(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
	if m, err := Parse(strings.Repeat("A=B\n", 2000)); err == nil {
		t.Errorf("8000 bytes are decoded to %+v", m)
	}
}

// TestOddLines: a line that says nothing costs only itself, whatever stands before or behind it.
func TestOddLines(t *testing.T) {
	for _, line := range []string{
		"X_FOO=bar", "Y=", "READY", "=1", "READY=0", "READY=yes", "garbage", "MAINPID=", "MAINPID=1", "MAINPID=-4",
		"MAINPID=99999999999",
		"FDNAME=", "FDNAME=a:b", "FDNAME=a b", "FDNAME=a\x7f", "FDNAME=" + strings.Repeat("a", 256), "FDSTORE=0",
		"BARRIER=2",
		"EXTEND_TIMEOUT_USEC=-1", "EXTEND_TIMEOUT_USEC=9999999999999999",
	} {
		m, err := Parse("STATUS=a\n" + line + "\nREADY=1")
		if err != nil || !m.Ready || m.Status != "a" || len(m.Ignored) != 1 {
			t.Errorf("beside %q: %+v, %v", line, m, err)
		}
		m.Ignored = nil
		if want := (Message{Ready: true, Status: "a", HasStatus: true}); !reflect.DeepEqual(m, want) {
			t.Errorf("%q is not ignored: %+v", line, m)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"READY=1\nSTATUS=ok", "MAINPID=7\nWATCHDOG=1", "EXTEND_TIMEOUT_USEC=5", "A=B\n=\n",
		"\x00=\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := Parse(text)
		if err != nil && !reflect.DeepEqual(m, Message{}) {
			t.Errorf("Parse(%q) gives %+v beside %v", text, m, err)
		}
		if strings.ContainsAny(m.Status, "\x00\x1b\x07\r") || m.MainPID == 1 || m.MainPID < 0 || m.Extend < 0 {
			t.Errorf("Parse(%q) = %+v", text, m)
		}
	})
}

type received struct {
	from    Sender
	message Message
	files   []*os.File
	err     error
}

// listening runs a listener and returns its path and what it receives.
func listening(t *testing.T) (string, <-chan received) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil { // left by an earlier life
		t.Fatal(err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	got, over := make(chan received, 16), make(chan error, 1)
	go func() {
		over <- l.Run(ctx, Receiver{
			Accept: func(s Sender, m Message, f []*os.File) { got <- received{s, m, f, nil} },
			Refuse: func(s Sender, err error) { got <- received{s, Message{}, nil, err} },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-over; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returns %v", err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("the socket is left behind")
		}
	})
	return path, got
}

func TestSendAndReceive(t *testing.T) {
	path, got := listening(t)
	t.Setenv(Variable, path)
	if err := Ready(); err != nil {
		t.Fatal(err)
	}
	r := <-got
	if r.err != nil || !r.message.Ready || r.from.PID != os.Getpid() || r.from.UID != os.Getuid() {
		t.Errorf("received %+v", r)
	}
	if err := Send("STOPPING=1"); err != nil {
		t.Fatal(err)
	}
	if r := <-got; !r.message.Stopping {
		t.Errorf("received %+v", r)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Setenv(Variable, "")
	if err := Ready(); err != nil {
		t.Errorf("Ready without a socket: %v", err)
	}
	t.Setenv(Variable, filepath.Join(t.TempDir(), "gone"))
	if err := Ready(); err == nil {
		t.Error("Ready to a missing socket succeeds")
	}
}

func TestTooLongIsRefused(t *testing.T) {
	path, got := listening(t)
	t.Setenv(Variable, path)
	for _, text := range []string{strings.Repeat("x", MaxSize+1), "READY=1\n" + strings.Repeat("y=z\n", 10000)} {
		if err := Send(text); err != nil {
			t.Fatal(err)
		}
		if r := <-got; r.err == nil || r.from.PID != os.Getpid() {
			t.Errorf("Send(%.20q) is received as %+v", text, r)
		}
	}
	if err := Ready(); err != nil {
		t.Fatal(err)
	}
	if r := <-got; !r.message.Ready {
		t.Errorf("after garbage: %+v", r)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
