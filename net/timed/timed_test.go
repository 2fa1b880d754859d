package timed

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/net/clock"
	"resinos/net/clockstatus"
	"resinos/net/lease"
	"resinos/net/link/linktest"
	"resinos/net/savedtime"
	"resinos/services/hostname"
)

var (
	build     = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	loopback  = netip.MustParseAddr("127.0.0.1")
	otherHome = netip.MustParseAddr("127.0.0.2")
	liarHome  = netip.MustParseAddr("127.0.0.3")
)

// fake is a clock beside the machine's own, which it reads and never touches. What is set of it is only remembered.
type fake struct {
	mu     sync.Mutex // guards the rest
	wrong  time.Duration
	ppm    float64
	slewed time.Duration
	bound  time.Duration
	steps  int
	fault  error
	began  time.Time
	sets   chan struct{}
}

func newFake(wrong time.Duration) *fake {
	return &fake{wrong: wrong, began: time.Now(), sets: make(chan struct{}, 1)}
}

func (f *fake) Read() clock.Reading {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	return clock.Reading{Boot: time.Minute + now.Sub(f.began), Raw: build.Add(now.Sub(f.began)),
		Real: now.Round(0).Add(f.wrong)}
}

func (f *fake) Step(by time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault != nil {
		return f.fault
	}
	f.steps++
	f.wrong += by
	f.tell()
	return nil
}

func (f *fake) tell() {
	select {
	case f.sets <- struct{}{}:
	default:
	}
}

// set is somebody else's doing.
func (f *fake) set(by time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrong += by
	f.tell()
}

func (f *fake) Slew(by time.Duration, ppm float64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slewed, f.ppm = by, ppm
	return nil
}

func (f *fake) Mark(bound, _ time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bound = bound
	return nil
}

func (f *fake) PPM() float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ppm
}

func (f *fake) Sets() <-chan struct{} { return f.sets }

func (f *fake) error() (time.Duration, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wrong, f.steps
}

// home is a directory for a daemon's files.
func home(t *testing.T, f *fake) Config {
	dir := t.TempDir()
	return Config{
		Clock: f, Build: build, Defaults: []string{}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Status: filepath.Join(dir, "time.json"), Synced: filepath.Join(dir, "synced"), Saved: filepath.Join(dir,
			"clock"),
	}
}

// start runs a daemon until the test ends.
func start(t *testing.T, cfg Config) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run = %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// await returns the first status that is as wanted.
func await(t *testing.T, path string, want func(clockstatus.Status) bool) clockstatus.Status {
	t.Helper()
	var s clockstatus.Status
	var err error
	reached := false
	defer func() {
		if !reached {
			t.Logf("status stays %+v, %v", s, err)
		}
	}()
	testenv.WaitFor(t, "the status of the clock is as wanted", func() bool {
		s, err = clockstatus.Load(path)
		return err == nil && want(s)
	})
	reached = true
	return s
}

// awaitSaved waits until the true time has been saved.
func awaitSaved(t *testing.T, path string) {
	t.Helper()
	testenv.WaitFor(t, "the true time is saved", func() bool {
		saved, err := savedtime.Read(path)
		return err == nil && time.Since(saved).Abs() < time.Minute
	})
}

func synced(s clockstatus.Status) bool { return s.Synchronised }

// liar is a small NTP server whose clock is wrong. change may spoil its answers.
func liar(t *testing.T, home netip.Addr, wrong time.Duration, change func([]byte) []byte) {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(home, 123)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() { // ends with conn
		in := make([]byte, 128)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(in)
			if err != nil {
				return
			}
			if n < 48 {
				continue
			}
			out := answer(in, time.Now().Add(wrong))
			if change != nil {
				out = change(out)
			}
			_, _ = conn.WriteToUDPAddrPort(out, from) // who asked will notice
		}
	}()
}

// answer is an NTP server's packet (RFC 5905, figure 8).
func answer(question []byte, now time.Time) []byte {
	stamp := func(t time.Time) uint64 {
		since := t.Sub(time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC))
		return uint64(since/time.Second)<<32 | uint64(since%time.Second)<<32/uint64(time.Second)
	}
	out := make([]byte, 48)
	out[0] = 4<<3 | 4 // version 4, server
	out[1] = 2
	out[3] = 0xec // precision of a microsecond
	copy(out[12:], "LIAR")
	binary.BigEndian.PutUint64(out[16:], stamp(now.Add(-time.Minute)))
	copy(out[24:32], question[40:48])
	binary.BigEndian.PutUint64(out[32:], stamp(now))
	binary.BigEndian.PutUint64(out[40:], stamp(now))
	return out
}

// chrony starts Debian's NTP server on an address of the isolated network. It never touches a clock (-x).
func chrony(t *testing.T, home netip.Addr, stratum int, more string) (stop func()) {
	t.Helper()
	program := testenv.NeedProgram(t, "chronyd")
	dir := t.TempDir()
	conf := filepath.Join(dir, "chrony.conf")
	text := fmt.Sprintf("local stratum %d\nallow\nbindaddress %s\ncmdport 0\nbindcmdaddress /\npidfile %s/pid\n%s\n",
		stratum, home, dir, more)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-x", "-d", "-u", "root", "-f", conf)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			_ = cmd.Process.Kill() // fails only if it has ended
			_ = cmd.Wait()         // says that it was killed
		})
	}
	t.Cleanup(stop)
	raw := func() time.Time { return build }
	testenv.WaitFor(t, "chronyd answers", func() bool {
		a := Ask(t.Context(), netip.AddrPortFrom(home, 123), raw)
		return a.Fault == "" && a.Sample.Stratum == stratum
	})
	return stop
}

// isolated is a network of its own with the loopback up.
func isolated(t *testing.T) bool {
	t.Helper()
	if !linktest.Isolate(t) {
		return false
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("set lo up: %v: %s", err, out)
	}
	return true
}

// near is right: half of the way to a server and back is what a clock may be wrong by, and on a busy host that is as
// long as any wait. All clocks here are set wrong by much more; package clock tests in simulated time how exact it is.
func near(wrong time.Duration) bool { return wrong.Abs() <= testenv.Patience() }

// Two real servers and one that lies: the clock is stepped once, by what the two say.
func TestChrony(t *testing.T) {
	if !isolated(t) {
		return
	}
	chrony(t, loopback, 3, "")
	chrony(t, otherHome, 5, "")
	liar(t, liarHome, 45*24*time.Hour, nil)
	f := newFake(-300 * 24 * time.Hour)
	cfg := home(t, f)
	cfg.Servers = func() string { return liarHome.String() + " " + otherHome.String() }
	cfg.Defaults = []string{loopback.String()}
	stop := start(t, cfg)
	s := await(t, cfg.Status, synced)
	if wrong, steps := f.error(); !near(wrong) || steps != 1 {
		t.Errorf("wrong by %v after %d steps", wrong, steps)
	}
	if s.By != loopback.String() && s.By != otherHome.String() || s.Stratum != 3 && s.Stratum != 5 ||
		s.Origin != clockstatus.FromNTP || !s.Running("/") {
		t.Errorf("status = %+v", s)
	}
	for _, one := range s.Servers {
		if liar := one.Name == liarHome.String(); liar && (one.State != clockstatus.FalseTicker ||
			!strings.Contains(one.Why, "45d")) || !liar && one.State != clockstatus.Used {
			t.Errorf("server = %+v", one)
		}
	}
	if s.LastStep == nil || s.LastStep.By < 299*86400 || s.Steps != 1 {
		t.Errorf("last step = %+v", s.LastStep)
	}
	if _, err := os.Stat(cfg.Synced); err != nil {
		t.Error(err)
	}
	awaitSaved(t, cfg.Saved)
	stop()
	// The next life goes on with what this one knew.
	f.mu.Lock()
	f.wrong = 0
	f.mu.Unlock()
	cfg.Servers, cfg.Defaults = nil, []string{"203.0.113.9"}
	start(t, cfg)
	again := await(t, cfg.Status, func(s clockstatus.Status) bool {
		return len(s.Servers) == 1 && s.Servers[0].State != clockstatus.Unasked
	})
	if !again.Synchronised || again.Since != s.Since || again.Steps != 1 {
		t.Errorf("after a restart: %+v", again)
	}
}

// A server without a clock, one that refuses, one that sends nonsense: none counts, and each is reported separately.
func TestBadServers(t *testing.T) {
	if !isolated(t) {
		return
	}
	spoil := map[string]func([]byte) []byte{
		"127.0.1.1": func(b []byte) []byte { b[0] |= 3 << 6; b[1] = 0; copy(b[12:], "RATE"); return b },
		"127.0.1.2": func(b []byte) []byte { b[1] = 0; copy(b[12:], "DENY"); return b },
		"127.0.1.3": func(b []byte) []byte { b[0] |= 3 << 6; return b },
		"127.0.1.4": func(b []byte) []byte { b[1] = 16; return b },
		"127.0.1.5": func(b []byte) []byte { return b[:20] },
		"127.0.1.6": func(b []byte) []byte { b[24]++; return b }, // an answer to another question
		"127.0.1.7": func(b []byte) []byte { b[4] = 0x7f; return b },
		"127.0.1.8": func(b []byte) []byte { b[0] = 4<<3 | 3; return b }, // a question
		"127.0.1.9": func(b []byte) []byte { clear(b[40:48]); return b },
	}
	want := map[string]clockstatus.State{
		"127.0.1.1": clockstatus.Refusing, "127.0.1.2": clockstatus.Refusing, "127.0.1.3": clockstatus.Unfit,
		"127.0.1.4": clockstatus.Unfit,
		"127.0.1.5": clockstatus.Silent, "127.0.1.6": clockstatus.Silent, "127.0.1.7": clockstatus.Silent,
		"127.0.1.8": clockstatus.Silent, "127.0.1.9": clockstatus.Silent,
		"127.0.2.1": clockstatus.Silent, "nowhere.test": clockstatus.Unresolved, "127.0.0.3": clockstatus.Unfit,
		"127.0.0.1": clockstatus.Used,
	}
	for addr, change := range spoil {
		liar(t, netip.MustParseAddr(addr), 0, change)
	}
	liar(t, liarHome, -40*365*24*time.Hour, nil) // before the build
	chrony(t, loopback, 3, "")
	f := newFake(time.Hour)
	cfg := home(t, f)
	for name := range want {
		cfg.Defaults = append(cfg.Defaults, name)
	}
	cfg.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		return nil, &net.DNSError{Err: "x", IsNotFound: true}
	}
	start(t, cfg)
	s := await(t, cfg.Status, synced)
	for _, one := range s.Servers {
		if one.State != want[one.Name] || one.State != clockstatus.Used && one.Why == "" {
			t.Errorf("%s is %s (%s), want %s", one.Name, one.State, one.Why, want[one.Name])
		}
		t.Logf("%s: %s, %s", one.Name, one.State, one.Why)
	}
	if wrong, _ := f.error(); !near(wrong) {
		t.Errorf("wrong by %v", wrong)
	}
}

// A server comes with a lease, another dies; somebody sets the clock.
func TestLeaseAndJump(t *testing.T) {
	if !isolated(t) {
		return
	}
	chrony(t, loopback, 3, "")
	f := newFake(-time.Hour)
	cfg := home(t, f)
	leased := make(chan lease.Lease)
	cfg.Leases = leased
	cfg.Defaults = []string{"nowhere.test"}
	cfg.Lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no network") }
	start(t, cfg)
	s := await(t, cfg.Status, func(s clockstatus.Status) bool {
		return len(s.Servers) == 1 && s.Servers[0].State == clockstatus.Unresolved
	})
	if s.Synchronised || s.Servers[0].Why != "no network" || s.Trouble == "" {
		t.Errorf("without a network: %+v", s)
	}
	leased <- lease.Lease{Link: "eth0", NTP: []netip.Addr{loopback}, Length: time.Hour}
	s = await(t, cfg.Status, synced)
	if s.By != loopback.String() || s.Servers[0].From != "dhcp" {
		t.Errorf("status = %+v", s)
	}
	f.set(2 * time.Hour)
	s = await(t, cfg.Status, func(s clockstatus.Status) bool { return s.Steps == 2 })
	if wrong, _ := f.error(); !near(wrong) || !strings.Contains(s.LastStep.Why, "somebody else") {
		t.Errorf("wrong by %v, last step %+v", wrong, s.LastStep)
	}
}

// Somebody sets the clock: from that moment on, and not only when the servers have answered, nobody reads that it is
// synchronised.
func TestSetIsToldAtOnce(t *testing.T) {
	f := newFake(0)
	cfg := home(t, f)
	cfg.Defaults = []string{"192.0.2.1"}
	var mute atomic.Bool
	cfg.Ask = func(ctx context.Context, _ netip.AddrPort, raw func() time.Time) Answer {
		if mute.Load() {
			<-ctx.Done()
			return Answer{Fault: "no answer"}
		}
		return Answer{Sample: clock.Sample{At: raw(), Offset: time.Now().Round(0).Sub(raw()), Delay: time.Millisecond,
			Stratum: 2}}
	}
	start(t, cfg)
	await(t, cfg.Status, synced)
	mute.Store(true)
	f.set(2 * time.Hour)
	s := await(t, cfg.Status, func(s clockstatus.Status) bool { return !s.Synchronised })
	if s.Servers[0].State == clockstatus.Silent {
		t.Error("told only when the servers had not answered in time")
	}
	if s.Origin != clockstatus.FromHand || s.Trouble == "" || s.LastStep != nil {
		t.Errorf("status = %+v", s)
	}
	if _, err := os.Lstat(cfg.Synced); err == nil {
		t.Error("the file of the synchronised clock is there")
	}
}

// Hours of life in a moment: the timers are the monotonic ones, the clock is saved once a day, and nothing is written
// in between.
func TestDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0)
		cfg := home(t, f)
		cfg.Defaults = []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}
		asked, saves := 0, 0
		cfg.Ask = func(_ context.Context, server netip.AddrPort, raw func() time.Time) Answer {
			f.mu.Lock()
			asked++
			f.mu.Unlock()
			at := raw()
			time.Sleep(10 * time.Millisecond)
			return Answer{Sample: clock.Sample{At: at.Add(5 * time.Millisecond), Offset: time.Now().Round(0).Sub(raw()),
				Delay: 10 * time.Millisecond, Stratum: 2}}
		}
		cfg.Save = func(path string, now time.Time) error {
			saves++
			return savedtime.Save(path, now)
		}
		// The simulated day begins before the build.
		cfg.Build = time.Time{}
		start(t, cfg)
		time.Sleep(time.Hour)
		synctest.Wait()
		first := asked
		if s, err := clockstatus.Load(cfg.Status); err != nil || !s.Synchronised {
			t.Errorf("after an hour: %+v, %v", s, err)
		}
		if saves != 1 {
			t.Errorf("%d saves in the first hour", saves)
		}
		// A clock that is set to and fro moves no timer of ours.
		f.set(10 * 365 * 24 * time.Hour)
		time.Sleep(time.Minute)
		synctest.Wait()
		if asked-first > 3*6 {
			t.Errorf("%d questions in the minute after a jump of ten years", asked-first)
		}
		if wrong, _ := f.error(); wrong.Abs() > time.Second {
			t.Errorf("wrong by %v", wrong)
		}
		time.Sleep(9*24*time.Hour + time.Hour)
		synctest.Wait()
		if saves < 9 || saves > 12 {
			t.Errorf("%d saves in nine days", saves)
		}
		if asked > 600 {
			t.Errorf("%d questions in nine days", asked)
		}
		t.Logf("%d questions, %d saves in nine days", asked, saves)
	})
}

// A disk that hangs while the time is saved holds up nothing else: netd waits for us to take its leases.
func TestHungDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := home(t, newFake(0))
		leases, hung := make(chan lease.Lease), make(chan struct{})
		cfg.Leases = leases
		cfg.Save = func(string, time.Time) error { <-hung; return nil }
		stop := start(t, cfg)
		synctest.Wait()
		select {
		case leases <- lease.Lease{Link: "eth0"}:
		case <-time.After(time.Hour):
			t.Error("a lease is not taken")
		}
		close(hung)
		stop()
	})
}

// A saved time in the future that set the clock wrong is corrected as soon as the servers have set it right.
func TestGarbageSaved(t *testing.T) {
	if !isolated(t) {
		return
	}
	liar(t, loopback, 0, nil) // it tells the truth
	f := newFake(9 * 365 * 24 * time.Hour)
	cfg := home(t, f)
	cfg.Defaults = []string{loopback.String()}
	if err := savedtime.Save(cfg.Saved, time.Now().Add(9*365*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	start(t, cfg)
	await(t, cfg.Status, synced)
	awaitSaved(t, cfg.Saved)
}

// A clock that may not be set, a status and a saved time that cannot be written: said, and nothing breaks.
func TestNothingWorks(t *testing.T) {
	if !isolated(t) {
		return
	}
	liar(t, loopback, 0, nil)
	f := newFake(-time.Hour)
	f.fault = errors.New("operation not permitted")
	var said testenv.Log
	cfg := home(t, f)
	cfg.Defaults = []string{loopback.String()}
	cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
	cfg.Status, cfg.Saved = "/proc/nothing/time.json", "/proc/nothing/clock"
	start(t, cfg)
	for _, want := range []string{"not permitted", "status of the clock not written", "time not saved"} {
		testenv.WaitFor(t, "the log says "+want, func() bool { return said.Has(want) })
	}
}

func TestSources(t *testing.T) {
	defaults, err := Defaults()
	if err != nil || len(defaults) != 4 {
		t.Fatalf("Defaults = %v, %v", defaults, err)
	}
	list, err := parseTable(table)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		// A name, not an address: the operator may move it. No zone of the pool: each belongs to one maker of devices.
		_, fault := netip.ParseAddr(s.Name)
		if !hostname.ValidServer(s.Name) || fault == nil || len(s.Why) < 40 ||
			strings.HasSuffix(s.Name, "pool.ntp.org") {
			t.Errorf("default server %q, because %q", s.Name, s.Why)
		}
	}
	if _, err := parseTable("[[server]]\nname = 'a'\nport = 1"); err == nil || !strings.Contains(err.Error(), "port") {
		t.Errorf("an unknown key: %v", err)
	}
	got := Sources([]netip.Addr{loopback}, []string{"ntp.example", loopback.String(), defaults[1]}, defaults)
	want := fmt.Sprint([]clock.Source{{Name: "127.0.0.1", From: "dhcp"}, {Name: "ntp.example", From: "config"},
		{Name: defaults[1], From: "config"},
		{Name: defaults[0], From: "default"}, {Name: defaults[2], From: "default"},
		{Name: defaults[3], From: "default"}})
	if fmt.Sprint(got) != want {
		t.Errorf("Sources = %v, want %v", got, want)
	}

	l := leases{
		"eth1": {Link: "eth1", NTP: []netip.Addr{otherHome}, Bound: time.Minute, Length: time.Hour},
		"eth0": {Link: "eth0", NTP: []netip.Addr{loopback}, Bound: time.Minute, Length: time.Minute},
	}
	if got := fmt.Sprint(l.servers(90 * time.Second)); got != "[127.0.0.1 127.0.0.2]" {
		t.Errorf("servers = %v", got)
	}
	if got := fmt.Sprint(l.servers(2 * time.Minute)); got != "[127.0.0.2]" {
		t.Errorf("servers after a lease has ended = %v", got)
	}
}

// The kernel's clock, read only: a test never sets it.
func TestKernelRead(t *testing.T) {
	k, err := OpenKernel()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		clock func() int64 // the kernel's own value
		read  func(clock.Reading) int64
	}{
		"boot": {func() int64 { return nanoseconds(unix.CLOCK_BOOTTIME) },
			func(r clock.Reading) int64 { return int64(r.Boot) }},
		"raw": {func() int64 { return nanoseconds(unix.CLOCK_MONOTONIC_RAW) },
			func(r clock.Reading) int64 { return int64(r.Raw.Sub(k.origin)) }},
		"real": {func() int64 { return time.Now().UnixNano() },
			func(r clock.Reading) int64 { return r.Real.UnixNano() }},
	} {
		before := c.clock()
		got := c.read(k.Read())
		if after := c.clock(); got < before || got > after || before <= 0 {
			t.Errorf("%s: %d, want %d to %d", name, got, before, after)
		}
	}
	k.Close()
	if ppm := k.PPM(); ppm < -500 || ppm > 500 {
		t.Errorf("PPM = %v", ppm)
	}
	select {
	case <-k.Sets():
		t.Error("somebody has set the clock of this machine")
	default:
	}
}
