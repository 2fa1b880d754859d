package getty

import (
	"bufio"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
)

func TestBanner(t *testing.T) {
	f := parseRelease("NAME=\"resinOS\"\nVERSION_ID=0.1.0\nVARIANT_ID='development'\nJUNK\n")
	f.host, f.device = "shed", "ttyS0"
	text := banner(f)
	f.addresses = []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}
	text += banner(f)
	testenv.Golden(t, "banner.golden", text)
}

func TestParseActive(t *testing.T) {
	for in, want := range map[string][]string{
		"ttyS0\n":               {"/dev/ttyS0"},
		"tty0 ttyAMA0 ttynull ": {"/dev/tty1", "/dev/ttyAMA0"},
		"":                      nil,
		"../../etc/passwd":      nil,
	} {
		if got := parseActive(in); !reflect.DeepEqual(got, want) {
			t.Errorf("parseActive(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParseRelease(f *testing.F) {
	f.Add("NAME=\"a\\nb\"\nVERSION_ID=\n=\n")
	f.Fuzz(func(t *testing.T, text string) { banner(parseRelease(text)) })
}

// terminal is the far end of a console.
func terminal(t *testing.T) (far *os.File, device string) {
	t.Helper()
	far, near, err := pty.Open()
	if err != nil {
		testenv.Lacking(t, "a pseudo terminal: %v", err)
	}
	// While near is open the far end sees no hangup between two shells.
	t.Cleanup(func() { far.Close(); near.Close() })
	return far, near.Name()
}

func expect(t *testing.T, lines <-chan string, part string) string {
	t.Helper()
	for deadline := time.After(testenv.Patience()); ; {
		select {
		case line := <-lines:
			if strings.Contains(line, part) {
				return line
			}
		case <-deadline:
			t.Fatalf("%q did not appear", part)
		}
	}
}

func scan(far *os.File) <-chan string {
	lines := make(chan string, 1000)
	go func() {
		for in := bufio.NewScanner(far); in.Scan(); {
			lines <- in.Text()
		}
	}()
	return lines
}

func TestShellOnEachConsole(t *testing.T) {
	a, deviceA := terminal(t)
	b, deviceB := terminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, Config{Devices: []string{deviceA, deviceB}, Log: slog.Default()}) }()
	for _, far := range []*os.File{a, b} {
		lines := scan(far)
		expect(t, lines, "osctl status")
		// A session leader on this terminal, with a terminal of its own, and root's environment.
		far.WriteString("echo got$((1)) $(cut -d' ' -f1,6,7 /proc/$$/stat) $HOME\n")
		fields := strings.Fields(expect(t, lines, "got1 "))
		fields = fields[len(fields)-4:] // a prompt may be in front
		if fields[0] != fields[1] || fields[2] == "0" || fields[3] != "/root" {
			t.Errorf("pid, session, terminal, home = %q", fields)
		}
		time.Sleep(shortLife) // sleep: a life that counts as a good one
		far.WriteString("stty raw -echo; exit 3\n")
		began := time.Now()
		expect(t, lines, "osctl status") // the next shell, and a sane terminal again
		testenv.AtMost(t, "the next shell", time.Since(began), time.Second)
		far.WriteString("echo six$((5+1))\n")
		expect(t, lines, "six6")
	}
	cancel()
	if err := testenv.Receive(t, "the end of Run", done); err != nil {
		t.Error(err)
	}
}

// TestAddressComesLater: the shell is there before the network. The banner is completed when a link gets an address, not
// for a network of containers.
func TestAddressComesLater(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	far, device := terminal(t)
	root := t.TempDir()
	state := filepath.Join(root, networkState)
	if err := os.MkdirAll(state, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, Config{Devices: []string{device}, Root: root, Log: slog.Default()}) }()
	lines := scan(far)
	expect(t, lines, "none yet, follows below")
	expect(t, lines, "osctl help")
	give := func(link, address string) {
		t.Helper()
		linktest.Cable(t, link)
		testenv.Run(t, "ip", "addr", "add", address, "dev", link)
		if err := os.WriteFile(filepath.Join(state, "resolv.conf"), nil, 0o644); err != nil { // as netd does
			t.Fatal(err)
		}
	}
	give("net-dc75", "10.114.105.1/24")
	give("eth9", "2001:db8::7/64") // IPv4 takes longer, and comes first
	give("eth8", "192.0.2.7/24")
	if line := expect(t, lines, "  address  "); strings.TrimSpace(line) != "address   192.0.2.7 2001:db8::7" {
		t.Errorf("address: %q", line)
	}
	expect(t, lines, "ssh -p 22222 root@192.0.2.7")
	cancel()
	if err := testenv.Receive(t, "the end of Run", done); err != nil {
		t.Error(err)
	}
}

func TestFaults(t *testing.T) {
	if err := Run(t.Context(), Config{Root: t.TempDir()}); err == nil {
		t.Error("Run without any console succeeded")
	}
	root := t.TempDir()
	path := filepath.Join(root, "sys/class/tty/console")
	os.MkdirAll(path, 0o755)
	os.WriteFile(filepath.Join(path, "active"), []byte("ttynull\n"), 0o644)
	if err := Run(t.Context(), Config{Root: root}); err == nil {
		t.Error("Run with a deaf console succeeded")
	}
	// A console that is missing or no terminal is said once and tried again, without a spin.
	for _, device := range []string{filepath.Join(root, "missing"), os.DevNull} {
		ctx, cancel := context.WithCancel(t.Context())
		said, done := make(lines, 100), make(chan error, 1)
		go func() {
			done <- Run(ctx, Config{Devices: []string{device}, Log: slog.New(slog.NewTextHandler(said, nil))})
		}()
		if line := testenv.Receive(t, "a word about "+device, said); !strings.Contains(line, "console has no shell") {
			t.Errorf("%s: %s", device, line)
		}
		testenv.NeverReceive(t, 200*time.Millisecond, "another word about "+device, said)
		cancel()
		if err := testenv.Receive(t, "the end of Run", done); err != nil {
			t.Error(err)
		}
	}
}

// lines takes what is logged, a line a write.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

func TestSane(t *testing.T) {
	raw := unix.Termios{Cflag: unix.B115200 | unix.CS8}
	sane(&raw)
	if raw.Cflag&unix.CBAUD != unix.B115200 || raw.Cflag&unix.CSIZE != unix.CS8 || raw.Lflag&unix.ICANON == 0 || raw.Cc[unix.VINTR] != 3 {
		t.Errorf("%+v", raw)
	}
}
