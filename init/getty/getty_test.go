package getty

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
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

// TestAddressComesLater: the shell is there before the network. The banner is completed when a link gets an address,
// not for a network of containers.
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

// parent is a Parent as PID 1 is one: it keeps copies of terminals for the next life.
type parent struct {
	t    *testing.T
	mu   sync.Mutex
	held map[string]int
	deaf bool
}

func (p *parent) Kept(name string) (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fd, ok := p.held[name]
	if !ok {
		return 0, false
	}
	fd, err := unix.Dup(fd)
	if err != nil {
		p.t.Error(err)
	}
	return fd, true
}

func (p *parent) Keep(name string, fd int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, twice := p.held[name]; twice {
		p.t.Errorf("%s is left twice", name)
	}
	if p.deaf {
		return errors.New("no")
	}
	fd, err := unix.Dup(fd)
	p.held[name] = fd
	return err
}

func (p *parent) Drop(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fd, ok := p.held[name]; ok {
		unix.Close(fd)
	}
	delete(p.held, name)
	return nil
}

func (p *parent) Settle() error { return nil }

// awaitTraffic waits for what wakes PID 1.
func (p *parent) awaitTraffic(name string) {
	p.t.Helper()
	testenv.WaitFor(p.t, "traffic on "+name, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		poll := []unix.PollFd{{Fd: int32(p.held[name]), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return n > 0 && err == nil
	})
}

// TestRests: with nobody at any console getty ends, and has left the terminals. A line on one of them starts a shell
// there, which gets the line unless it is empty; when the shell ends, getty rests again. What is no line wakes nobody.
func TestRests(t *testing.T) {
	a, deviceA := terminal(t)
	b, deviceB := terminal(t)
	p := &parent{t: t, held: map[string]int{}}
	cfg := Config{Devices: []string{deviceA, deviceB}, Log: slog.Default(), Parent: p}
	rests := func() {
		t.Helper()
		if err := Run(t.Context(), cfg); err != nil || len(p.held) != 2 {
			t.Fatalf("Run = %v, %d terminals are left, want 2", err, len(p.held))
		}
	}
	rests()
	linesA, linesB := scan(a), scan(b)
	expect(t, linesA, "Press Enter for a shell")
	expect(t, linesB, "Press Enter for a shell")
	nameA := filepath.Base(deviceA)
	a.WriteString("\xff\x00noise") // not a line
	rests()
	for i, typed := range []string{"\x15\n", "\x15echo l$((40+2))ine\n"} { // ^U takes the noise back
		a.WriteString(typed)
		p.awaitTraffic(nameA)
		done := make(chan error, 1)
		go func() { done <- Run(t.Context(), cfg) }()
		expect(t, linesA, "osctl status") // the banner
		if i > 0 {
			expect(t, linesA, "l42ine")
		}
		a.WriteString("echo on$((0+7)); sleep 1\n") // a life that counts as a good one
		expect(t, linesA, "on7")
		a.WriteString("exit\n")
		expect(t, linesA, "Press Enter for a shell")
		if err := testenv.Receive(t, "the rest", done); err != nil || len(p.held) != 2 {
			t.Fatalf("Run = %v, %d terminals are left, want 2", err, len(p.held))
		}
	}
	select {
	case line := <-linesB:
		t.Errorf("the other console says %q", line)
	default:
	}
}

// TestDoesNotRest: getty stays while a terminal cannot be left, and serves it.
func TestDoesNotRest(t *testing.T) {
	far, device := terminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	p := &parent{t: t, held: map[string]int{}, deaf: true}
	go func() { done <- Run(ctx, Config{Devices: []string{device}, Log: slog.Default(), Parent: p}) }()
	lines := scan(far)
	expect(t, lines, "Press Enter for a shell")
	far.WriteString("\n")
	expect(t, lines, "osctl status")
	cancel()
	if err := testenv.Receive(t, "the end of Run", done); err != nil {
		t.Error(err)
	}
}

// TestHungUp: a terminal that has hung up is taken back and said once, and getty neither rests with it nor spins.
func TestHungUp(t *testing.T) {
	far, near, err := pty.Open()
	if err != nil {
		testenv.Lacking(t, "a pseudo terminal: %v", err)
	}
	defer near.Close()
	device := near.Name()
	said := make(lines, 100)
	p := &parent{t: t, held: map[string]int{}}
	cfg := Config{Devices: []string{device}, Log: slog.New(slog.NewTextHandler(said, nil)), Parent: p}
	if err := Run(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	far.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	if line := testenv.Receive(t, "a word about the console", said); !strings.Contains(line, "console hung up") {
		t.Errorf("said %s", line)
	}
	testenv.NeverReceive(t, 200*time.Millisecond, "another word", said)
	cancel()
	if err := testenv.Receive(t, "the end of Run", done); err != nil || len(p.held) != 0 {
		t.Errorf("Run = %v, %d terminals are left", err, len(p.held))
	}
}

// TestScreen: a terminal of the screen counts as one only where somebody can see it.
func TestScreen(t *testing.T) {
	for _, c := range []struct {
		files map[string]string
		want  bool
	}{
		{nil, false},
		{map[string]string{"vtconsole/vtcon0/name": "(S) dummy device\n", "vtconsole/vtcon0/bind": "1\n"}, false},
		{map[string]string{"vtconsole/vtcon0/name": "(S) VGA+\n", "vtconsole/vtcon0/bind": "1\n"}, true},
		{map[string]string{"vtconsole/vtcon1/name": "(M) frame buffer device\n", "vtconsole/vtcon1/bind": "0\n"},
			false},
		{map[string]string{"graphics/fb0/name": "virtiodrmfb\n"}, true},
	} {
		root := t.TempDir()
		for name, text := range c.files {
			path := filepath.Join(root, "sys/class", name)
			os.MkdirAll(filepath.Dir(path), 0o755)
			os.WriteFile(path, []byte(text), 0o644)
		}
		if got := hasScreen(root); got != c.want {
			t.Errorf("%v: %v", c.files, got)
		}
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
	if raw.Cflag&unix.CBAUD != unix.B115200 || raw.Cflag&unix.CSIZE != unix.CS8 || raw.Lflag&unix.ICANON == 0 ||
		raw.Cc[unix.VINTR] != 3 {
		t.Errorf("%+v", raw)
	}
}
