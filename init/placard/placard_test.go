package placard

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/creack/pty"

	"resinos/bsp/update"
	"resinos/containers/appstatus"
	"resinos/mounts/testenv"
)

func TestLines(t *testing.T) {
	at := time.Date(2026, 11, 30, 3, 0, 0, 0, time.UTC)
	full := Facts{Host: "shed", Version: "0.1.0", Variant: "development",
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7"),
			netip.MustParseAddr("2001:db8::8")},
		Update: &update.Attempt{Version: "0.2.0", State: update.Confirmed, Ended: at},
		Apps: []appstatus.App{{Name: "hello", State: appstatus.Up},
			{Name: "shop\x1b[2J", State: appstatus.Backoff, Trouble: appstatus.Trouble{Cause: appstatus.CrashLoop}}},
		Problems: []string{"! netd: backoff"},
	}
	troubled := full
	trouble := func(cause appstatus.Cause, reason string) appstatus.Trouble {
		return appstatus.Trouble{Cause: cause, Reason: reason}
	}
	pump := trouble(appstatus.NotAsWanted, "pull example/pump:1: lookup example on 127.0.0.2: no such host")
	window := trouble(appstatus.CrashLoop, "crash loop: ended 3 times in 9s")
	kiosk := []appstatus.Container{{Name: "pump", Trouble: pump}, {Name: "well"}, {Name: "window", Trouble: window}}
	troubled.Problems, troubled.Addresses = nil, full.Addresses[:1]
	troubled.Apps = []appstatus.App{{Name: "kiosk", State: appstatus.Backoff, Trouble: pump, Containers: kiosk},
		{Name: "shop", Trouble: trouble(appstatus.NotUnderstood, "compose.yaml:3: no image")}}
	troubled.Update = &update.Attempt{Version: "0.2.0", State: update.Failed, Ended: at}
	var b strings.Builder
	for _, size := range [][2]int{{39, 12}, {39, 11}, {39, 9}} {
		b.WriteString(strings.Join(troubled.Lines(size[0], size[1]), "\n") + "\n----\n")
	}
	for _, size := range [][2]int{{40, 12}, {40, 9}, {20, 11}, {40, 3}} {
		for _, f := range []Facts{full, {Host: "new"}} {
			lines := f.Lines(size[0], size[1])
			b.WriteString(strings.Join(lines, "\n") + "\n----\n")
			if len(lines) > size[1] {
				t.Errorf("%v: %d lines", size, len(lines))
			}
		}
	}
	testenv.Golden(t, "lines.golden", b.String())
}

// FuzzLines: whatever an app or a host is called, the lines fit and hold nothing that a terminal obeys.
func FuzzLines(f *testing.F) {
	f.Add("name", "a\x1b[2Jb", 40, 12)
	f.Add("\xff\u0085\u202e", strings.Repeat("ä", 100), 1, 1)
	f.Add("", "", 0, 0)
	f.Fuzz(func(t *testing.T, host, name string, columns, rows int) {
		columns, rows = max(1, columns&0xff), max(1, rows&0x3f)
		facts := Facts{Host: host, Problems: []string{name}, Apps: []appstatus.App{{Name: name, State: appstatus.Up}}}
		lines := facts.Lines(columns, rows)
		if len(lines) > rows {
			t.Errorf("%d lines of %d", len(lines), rows)
		}
		for _, line := range lines {
			if utf8.RuneCountInString(line) > columns {
				t.Errorf("%q has more than %d columns", line, columns)
			}
			for _, r := range line {
				if r < ' ' || r >= 0x7f && r < 0xa0 || r > 0xff {
					t.Errorf("%q holds %q", line, r)
				}
			}
		}
	})
}

// TestEnlarge: each pixel becomes a square, also where a row does not end with a byte.
func TestEnlarge(t *testing.T) {
	for _, tt := range []struct{ width, times int }{{8, 3}, {9, 2}, {16, 4}, {5, 2}} {
		const height, count = 3, 2
		from := (tt.width + 7) / 8
		data := make([]byte, count*mostHeight*from)
		set := func(glyph, x, y int) bool { return (glyph+x*3+y*5)%4 == 0 }
		for g := range count {
			for y := range height {
				for x := range tt.width {
					if set(g, x, y) {
						data[(g*mostHeight+y)*from+x/8] |= 0x80 >> (x % 8)
					}
				}
			}
		}
		big := enlarge(data, tt.width, height, count, tt.times)
		to := (tt.width*tt.times + 7) / 8
		if len(big) != count*height*tt.times*to {
			t.Fatalf("%+v: %d bytes", tt, len(big))
		}
		for g := range count {
			for y := range height * tt.times {
				for x := range to * 8 {
					want := x < tt.width*tt.times && set(g, x/tt.times, y/tt.times)
					if got := big[(g*height*tt.times+y)*to+x/8]>>(7-x%8)&1 != 0; got != want {
						t.Fatalf("%+v: glyph %d, pixel %d, %d is %v", tt, g, x, y, got)
					}
				}
			}
		}
	}
}

// TestDrawFullRow: a line that ends in the last column keeps its last letter, which a terminal would clear by EL behind
// it.
func TestDrawFullRow(t *testing.T) {
	far, near, err := pty.Open()
	if err != nil {
		testenv.Lacking(t, "a pseudo terminal: %v", err)
	}
	defer far.Close()
	defer near.Close()
	if err := pty.Setsize(near, &pty.Winsize{Rows: 12, Cols: 40}); err != nil {
		t.Fatal(err)
	}
	draw(near, &letters{tty: near}, Facts{Host: strings.Repeat("m", 60)})
	got := make([]byte, 4096)
	n, err := far.Read(got)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(got[:n]), "\r")
	if want := "\x1b[K \x1b[1m" + strings.Repeat("m", 38) + ">\x1b[0m"; !strings.HasSuffix(first, want) {
		t.Errorf("the first row is %q, want %q at its end", first, want)
	}
}

// TestShow: it draws at once and when the apps change; a key ends it, is not left for the shell, and the terminal is as
// before.
func TestShow(t *testing.T) {
	far, near, err := pty.Open()
	if err != nil {
		testenv.Lacking(t, "a pseudo terminal: %v", err)
	}
	defer far.Close()
	defer near.Close()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, ofSystem), 0o755); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1000)
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := far.Read(b)
			if err != nil {
				return
			}
			said <- string(b[:n])
		}
	}()
	var all bytes.Buffer
	await := func(text string) {
		t.Helper()
		for !strings.Contains(all.String(), text) {
			all.WriteString(testenv.Receive(t, text, said))
		}
		all.Reset()
	}
	done := make(chan error, 1)
	go func() { done <- Show(context.Background(), near.Name(), root, slog.New(slog.DiscardHandler)) }()
	await("a key starts a shell\x1b[23;24r\x1b[23H") // the kernel's lines go there
	status := appstatus.Status{Apps: []appstatus.App{{Name: "shop", State: appstatus.Up}}}
	if err := appstatus.Publish(filepath.Join(root, appstatus.Path), status); err != nil {
		t.Fatal(err)
	}
	await("shop: up")
	if _, err := far.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if err := testenv.Receive(t, "the end", done); err != nil {
		t.Error(err)
	}
	await("\x1b[r\x1b[2J\x1b[H\x1b[?25h")
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- Show(ctx, near.Name(), root, slog.New(slog.DiscardHandler)) }()
	await("a key starts a shell")
	cancel()
	if err := testenv.Receive(t, "the end", done); err != context.Canceled {
		t.Errorf("ended with %v", err)
	}
	if err := Show(context.Background(), near.Name()+"-missing", root, nil); err == nil {
		t.Error("a terminal that is missing is used")
	}
}
