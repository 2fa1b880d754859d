package hooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/net/dhcp6"
	"resinos/net/lease"
	"resinos/net/link/linktest"
	"resinos/net/netstate"
)

// eth0 is a link with a lease, as in NetworkManager's own test of its dispatcher (tests/dispatcher-up).
func eth0() netstate.Link {
	a := netip.MustParseAddr
	return netstate.Link{Name: "eth0", Index: 2, Hardware: "02:00:00:00:00:01", Carrier: true,
		File: "office.nmconnection",
		ID:   "Random Connection", UUID: "3fd2a33a-d81b-423f-ae99-e6baba742311",
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.168.1.119/24"), netip.MustParsePrefix("2001:db8::5/64")},
		Routes: []netstate.Route{{Destination: netip.MustParsePrefix("192.168.1.0/24"), Metric: 102},
			{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: a("192.168.1.1"), Metric: 102},
			{Destination: netip.MustParsePrefix("10.0.0.0/8"), Gateway: a("192.168.1.2"), Metric: 50}},
		Servers: []netip.Addr{a("68.87.77.134"), a("68.87.72.134"), a("2001:db8::53")},
		Search:  []string{"hsd1.example"},
		Lease: &lease.Lease{Link: "eth0", Hardware: "02:00:00:00:00:01",
			Address:   netip.MustParsePrefix("192.168.1.119/24"),
			Broadcast: a("192.168.1.255"), Server: a("192.168.1.1"), Routers: []netip.Addr{a("192.168.1.1")},
			DNS:     []netip.Addr{a("68.87.77.134"), a("68.87.72.134")},
			Domains: []string{"hsd1.example"}, Bound: time.Minute, Length: 24 * time.Hour}}
}

func TestEnvironment(t *testing.T) {
	started := time.Unix(1_304_214_000, 0)
	var b strings.Builder
	six := eth0()
	six.Lease6 = &dhcp6.Lease{Addresses: []dhcp6.Address{{Addr: netip.MustParseAddr("2001:db8::6")}},
		DNS: []netip.Addr{netip.MustParseAddr("2001:db8::53")}, Search: []string{"six.example", "two.example"}}
	for _, e := range []Event{{Action: Up, Link: eth0()}, {Action: DHCP6, Link: six}, {Action: HostRename},
		{Action: Reach, Reach: "FULL"},
		{Action: Down, Link: netstate.Link{Name: "br0", Plain: true}},
		{Action: Up, Link: netstate.Link{Name: "x", ID: "a\nPATH=/tmp", File: "../../etc/shadow"}}} {
		fmt.Fprintf(&b, "# %s\n%s\n", e.Action, strings.Join(Environment(e, started), "\n"))
	}
	testenv.Golden(t, "environment", b.String())
}

func TestEvents(t *testing.T) {
	up, state := eth0(), func(links ...netstate.Link) netstate.State {
		return netstate.State{Hostname: "resin", Links: links}
	}
	with := func(change func(*netstate.Link)) netstate.Link {
		l := eth0()
		change(&l)
		return l
	}
	bare := with(func(l *netstate.Link) { l.Addresses, l.Lease = nil, nil })
	unplugged := with(func(l *netstate.Link) { l.Carrier = false })
	renewed := with(func(l *netstate.Link) { l.Lease.Bound += time.Hour })
	six := with(func(l *netstate.Link) {
		l.Lease6 = &dhcp6.Lease{Addresses: []dhcp6.Address{{Addr: netip.MustParseAddr("2001:db8::6")}},
			DNS: []netip.Addr{netip.MustParseAddr("2001:db8::53")}, Search: []string{"six.example"}}
	})
	six2 := with(func(l *netstate.Link) { l.Lease6 = &dhcp6.Lease{Bound: time.Hour} })
	edited := with(func(l *netstate.Link) { l.Written++ })
	renamed := with(func(l *netstate.Link) { l.Name = "wan" })
	for what, c := range map[string]struct {
		before, now netstate.State
		want        string
	}{
		"nothing":                {state(), state(), ""},
		"boot":                   {netstate.State{}, state(), ""},
		"a link without a lease": {state(), state(bare), ""},
		"the lease comes":        {state(bare), state(up), "pre-up eth0, up eth0"},
		"the same":               {state(up), state(up), ""},
		"renewed":                {state(up), state(renewed), "dhcp4-change eth0"},
		"DHCPv6 lease comes":     {state(up), state(six), "dhcp6-change eth0"},
		"DHCPv6 lease renewed":   {state(six), state(six2), "dhcp6-change eth0"},
		"DHCPv6 lease ends":      {state(six), state(up), ""},
		"up with both":           {state(bare), state(six), "pre-up eth0, up eth0"},
		"cable out":              {state(up), state(unplugged), "pre-down eth0, down eth0"},
		"link gone":              {state(up), state(), "pre-down eth0, down eth0"},
		"link renamed":           {state(up), state(renamed), "pre-down eth0, down eth0, pre-up wan, up wan"},
		"key file changed":       {state(up), state(edited), "pre-down eth0, down eth0, pre-up eth0, up eth0"},
		"host renamed":           {netstate.State{Hostname: "old"}, netstate.State{Hostname: "new"}, "hostname "},
		"reach":                  {netstate.State{}, netstate.State{Reach: "FULL"}, "connectivity-change "},
	} {
		var got []string
		for _, e := range Events(c.before, c.now) {
			got = append(got, string(e.Action)+" "+e.Link.Name)
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: %q, want %q", what, text, c.want)
		}
	}
}

// scripts creates a directory of scripts on a file system that forbids to execute them, as resin-state is.
func scripts(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	for _, d := range []string{"pre-up.d", "pre-down.d", noWait} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func put(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

// TestRun: scripts run one after the other in the order of their names, with arguments and environment, although their
// file system forbids it; those that others could have written do not.
func TestRun(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	dir, out, log := scripts(t), filepath.Join(t.TempDir(), "out"), &testenv.Log{}
	line := "echo $0 $1 $2 $CONNECTION_ID $IP4_ADDRESS_0 >> " + out + "\n"
	put(t, filepath.Join(dir, "20-second"), "#!/bin/sh\n"+line, 0o755)
	put(t, filepath.Join(dir, "10-first"), "#!/bin/sh\n"+line+"echo hello; echo world >&2; printf end; exit 3\n", 0o700)
	put(t, filepath.Join(dir, "30-writable"), "#!/bin/sh\n"+line, 0o775)
	put(t, filepath.Join(dir, "40-plain"), "#!/bin/sh\n"+line, 0o644)
	put(t, filepath.Join(dir, "50-setuid"), "#!/bin/sh\n"+line, 0o755|os.ModeSetuid)
	put(t, filepath.Join(dir, "60-nobody"), "#!/bin/sh\n"+line, 0o755)
	put(t, filepath.Join(dir, "70-backup~"), "#!/bin/sh\n"+line, 0o755)
	put(t, filepath.Join(dir, ".hidden"), "#!/bin/sh\n"+line, 0o755)
	put(t, filepath.Join(dir, "80-no-interpreter"), "#!/nonexistent\n", 0o755)
	put(t, filepath.Join(dir, "pre-up.d", "x"), "#!/bin/sh\n"+line, 0o755)
	if err := os.Chown(filepath.Join(dir, "60-nobody"), 65534, 0); err != nil {
		t.Fatal(err)
	}
	r := &Runner{Dir: dir, Log: slog.New(slog.NewTextHandler(log, nil))}
	r.Run(t.Context(), Event{Action: PreUp, Link: eth0()})
	r.Run(t.Context(), Event{Action: Up, Link: eth0()})
	r.Run(t.Context(), Event{Action: HostRename})
	text, err := os.ReadFile(out)
	want := ""
	for _, one := range []string{"pre-up.d/x eth0 pre-up", "10-first eth0 up", "20-second eth0 up"} {
		want += dir + "/" + one + " Random Connection 192.168.1.119/24 192.168.1.1\n"
	}
	want += dir + "/10-first none hostname\n" + dir + "/20-second none hostname\n"
	if err != nil || string(text) != want {
		t.Errorf("scripts wrote %q (%v), want %q", text, err, want)
	}
	for _, part := range []string{"hello", "message=world", "message=end", `"exit status 3"`,
		"30-writable: others may write it",
		"40-plain: not executable", "50-setuid", "60-nobody: its owner is not root", "80-no-interpreter", "hook done"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log lacks %q", part)
		}
	}
	if strings.Contains(log.String(), "backup") || strings.Contains(log.String(), "hidden") {
		t.Error("files that are no scripts are judged")
	}
	if t.Failed() {
		t.Log(log)
	}
}

// TestLimit: a script that does not end is killed with what it has started, and the next one runs; one that nobody
// waits for holds up nothing.
func TestLimit(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	dir, log := scripts(t), &testenv.Log{}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	put(t, filepath.Join(dir, "10-hangs"), "#!/bin/sh\nsleep 1000 > "+fifo+" &\nsleep 1000\n", 0o755)
	put(t, filepath.Join(dir, "20-next"), "#!/bin/sh\necho next > "+out+"\n", 0o755)
	put(t, filepath.Join(dir, noWait, "slow"), "#!/bin/sh\nexec cat "+fifo+"\n", 0o755)
	if err := os.Symlink("no-wait.d/slow", filepath.Join(dir, "05-slow")); err != nil {
		t.Fatal(err)
	}
	r := &Runner{Dir: dir, Limit: time.Second, Log: slog.New(slog.NewTextHandler(log, nil))}
	r.Run(t.Context(), Event{Action: Up, Link: eth0()})
	r.Wait() // cat ends: nobody holds the other end of the FIFO any more
	if text, err := os.ReadFile(out); err != nil || string(text) != "next\n" {
		t.Errorf("the next script: %q, %v\n%s", text, err, log)
	}
	if !strings.Contains(log.String(), "still running after 1s") {
		t.Errorf("log:\n%s", log)
	}
}

// TestOutput: what a script writes is bounded.
func TestOutput(t *testing.T) {
	log := &testenv.Log{}
	l := &lines{log: slog.New(slog.NewTextHandler(log, nil))}
	for range 3 * mostOutput / 10 {
		if _, err := l.Write([]byte("123456789\n")); err != nil {
			t.Fatal(err)
		}
	}
	l.flush()
	n := strings.Count(log.String(), "123456789")
	if n > mostOutput/10+1 || !strings.Contains(log.String(), "output of a hook cut") {
		t.Errorf("%d lines in the log", n)
	}
}

// TestNotifier: without scripts nobody is asked; a restart tells nobody again what was told.
func TestNotifier(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "state")
	sent := make(chan Event, 100)
	begin := func() (*Notifier, func()) {
		n := &Notifier{Dir: dir, File: file, Log: slog.New(slog.DiscardHandler),
			Send: func(_ context.Context, e Event) error { sent <- e; return nil }}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); n.Run(ctx) }()
		return n, func() { stop(); <-done }
	}
	up, down := netstate.State{Links: []netstate.Link{eth0()}}, netstate.State{}
	n, stop := begin()
	n.Follow(up)
	testenv.WaitFor(t, "the events are dropped", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.waiting) == 0
	})
	testenv.NeverReceive(t, 50*time.Millisecond, "an event without scripts", sent)
	put(t, filepath.Join(dir, "x"), "#!/bin/sh\n", 0o755)
	n.Follow(down)
	for _, want := range []Action{PreDown, Down} {
		if e := testenv.Receive(t, "an event", sent); e.Action != want || e.Link.Name != "eth0" {
			t.Errorf("sent %+v, want %s", e, want)
		}
	}
	n.Follow(up)
	testenv.Receive(t, "pre-up", sent)
	testenv.Receive(t, "up", sent)
	stop()
	n, stop = begin()
	defer stop()
	n.Follow(up)
	testenv.NeverReceive(t, 50*time.Millisecond, "an event after the restart", sent)
}
