package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestConsoleLines(t *testing.T) {
	cases := map[string]struct{ in, want string }{
		"split by carriage return": {"a\r\nb\r\n", "a|b"},
		"prompt":                   {"a\n~ # ", "a|~ # "},
		"colours":                  {"\x1b[1;32mok\x1b[0m\x1b]0;title\x07!\n", "ok!"},
		"cut escape":               {"x\x1b", "x"},
		"cut sequence":             {"x\x1b[12", "x"},
		"bytes":                    {"\x00a\xff\xfeb\n", "a?b"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			con := newConsole(io.Discard)
			for _, b := range []byte(c.in) { // the worst way to cut it
				_, _ = con.Write([]byte{b})
			}
			if got := strings.Join(con.Tail(9), "|"); got != c.want {
				t.Errorf("Tail = %q, want %q", got, c.want)
			}
		})
	}
}

func TestConsoleForgetsOldLines(t *testing.T) {
	con := newConsole(io.Discard)
	for i := range consoleLines + 10 {
		fmt.Fprintf(con, "line %d\n", i)
	}
	if got := con.Mark(); got != consoleLines+10 {
		t.Errorf("Mark = %d, want %d", got, consoleLines+10)
	}
	if _, err := con.Wait(cancelled(), 0, regexp.MustCompile(`^line 9$`)); err == nil {
		t.Error("a forgotten line was found")
	}
	if got, err := con.Wait(t.Context(), 0, regexp.MustCompile(`^line 10$`)); err != nil || got != "line 10" {
		t.Errorf("Wait = %q, %v", got, err)
	}
}

func TestConsoleBoundsALine(t *testing.T) {
	con := newConsole(io.Discard)
	for range 100 {
		_, _ = con.Write(bytes.Repeat([]byte("x"), 1000))
	}
	if n := len(con.Tail(1)[0]); n > 2*lineBytes {
		t.Errorf("a line of %d bytes is kept", n)
	}
}

func TestConsoleWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		con := newConsole(io.Discard)
		_, _ = con.Write([]byte("login: old\n"))
		mark := con.Mark()
		go func() {
			time.Sleep(time.Second)
			_, _ = con.Write([]byte("noise\nlog"))
			time.Sleep(time.Second)
			_, _ = con.Write([]byte("in: new"))
		}()
		got, err := con.Wait(t.Context(), mark, regexp.MustCompile("login:"))
		if err != nil || got != "login: new" {
			t.Errorf("Wait = %q, %v", got, err)
		}
		late, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := con.Wait(late, mark, regexp.MustCompile("never")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait = %v, want the deadline", err)
		}
		go con.finish()
		if _, err := con.Wait(t.Context(), mark, regexp.MustCompile("never")); !errors.Is(err, io.EOF) {
			t.Errorf("Wait = %v, want EOF", err)
		}
	})
}

func TestConsoleCopy(t *testing.T) {
	con := newConsole(io.Discard)
	var got bytes.Buffer
	_, _ = con.Write([]byte("before"))
	stop := con.Copy(&got)
	_, _ = con.Write([]byte("\x1b[1mraw\r\n"))
	stop()
	_, _ = con.Write([]byte("after"))
	if got.String() != "\x1b[1mraw\r\n" {
		t.Errorf("copy = %q", got.String())
	}
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func FuzzConsole(f *testing.F) {
	f.Add([]byte("a\r\n\x1b[1mb\x1b]0;t\x07\n# "))
	f.Fuzz(func(t *testing.T, in []byte) {
		whole, pieces := newConsole(io.Discard), newConsole(io.Discard)
		_, _ = whole.Write(in)
		for _, b := range in {
			_, _ = pieces.Write([]byte{b})
		}
		if len(in) < lineBytes && strings.Join(whole.Tail(99), "\n") != strings.Join(pieces.Tail(99), "\n") {
			t.Errorf("%q depends on how it is cut", in)
		}
	})
}
