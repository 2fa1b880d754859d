package netd

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/net/lease"
	"resinos/net/link/linktest"
)

// asNetd makes the test binary netd itself; its value is the directory of the device.
const asNetd = "RESINOS_TEST_NETD"

func TestMain(m *testing.M) {
	dir := os.Getenv(asNetd)
	if dir == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	cfg := (&device{dir: dir, log: &logBuffer{}}).config()
	cfg.Log = slog.New(slog.NewTextHandler(os.Stdout, nil))
	cfg.OnLease = nil
	if err := Run(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// spawned is a netd in a process of its own.
type spawned struct {
	t   *testing.T
	cmd *exec.Cmd
	pid int
}

// spawn starts netd as a process; its log goes to the device's.
func (d *device) spawn() *spawned {
	d.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asNetd+"="+d.dir, "GOMAXPROCS=1")
	cmd.Stdout, cmd.Stderr = d.log, d.log
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		cmd.Process.Kill() // it may be gone already
		cmd.Wait()
	})
	return &spawned{t: d.t, cmd: cmd, pid: cmd.Process.Pid}
}

// usage is what a process has cost so far.
type usage struct {
	cpu     time.Duration
	private int // kB of memory that no other process shares
	wakeups int // how often its threads have waited for something that then came
	read    int // bytes, of packets too; Go's runtime reads eight to wake a thread, perhaps thousands of times a second
}

func (s *spawned) usage() usage {
	s.t.Helper()
	var u usage
	stat := s.read("stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	var user, system int
	fmt.Sscan(fields[11], &user)
	fmt.Sscan(fields[12], &system)
	u.cpu = time.Duration(user+system) * (time.Second / 100)
	u.private = sum(s.read("smaps_rollup"), "Private_Clean:", "Private_Dirty:")
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", s.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, path := range threads {
		text, _ := os.ReadFile(path) // a thread may have ended
		u.wakeups += sum(string(text), "voluntary_ctxt_switches:")
	}
	u.read = sum(s.read("io"), "rchar:")
	return u
}

func (s *spawned) read(file string) string {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", s.pid, file))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// sum adds the numbers of the lines that begin with one of the names.
func sum(text string, names ...string) (total int) {
	for line := range strings.Lines(text) {
		for _, name := range names {
			if rest, ok := strings.CutPrefix(line, name); ok {
				var n int
				fmt.Sscan(rest, &n)
				total += n
			}
		}
	}
	return total
}

// addressEvents collects what happens to the addresses of w0.
func addressEvents(t *testing.T) chan netlink.AddrUpdate {
	t.Helper()
	events, done := make(chan netlink.AddrUpdate, 1000), make(chan struct{})
	if err := netlink.AddrSubscribe(events, done); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(done) })
	return events
}

// netd is killed again and again: its address stays all the time, and the next netd takes the lease over.
func TestKilledAndRestarted(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.dnsmasq(smallRange, "--dhcp-option=option:mtu,1400")
	netd := d.spawn()
	d.eventually("lease", func() bool { return strings.Contains(d.log.String(), "lease bound") })
	first, err := lease.Load(d.config().LeaseDir, "w0")
	if err != nil {
		t.Fatal(err)
	}
	events := addressEvents(t)
	for i := range 10 {
		unix.Kill(netd.pid, unix.SIGKILL)
		netd.cmd.Wait()
		said := len(d.log.String())
		netd = d.spawn()
		if i%2 == 1 { // the others are killed in the middle of their start
			d.eventually("lease taken over and confirmed", func() bool {
				return strings.Contains(d.log.String()[said:], "lease bound")
			})
		}
	}
	if l, err := lease.Load(d.config().LeaseDir, "w0"); err != nil || l.Address != first.Address ||
		l.Bound <= first.Bound {
		t.Errorf("lease = %s from %s, %v; want %s, renewed after %s", l.Address, l.Bound, err, first.Address,
			first.Bound)
	}
	for len(events) > 0 {
		if e := <-events; !e.NewAddr {
			t.Errorf("address %s was removed meanwhile", e.LinkAddress.String())
		}
	}
	if strings.Contains(d.log.String(), "DISCOVER") || !has(t, first.Address.String())() {
		t.Errorf("addresses = %q, want %s as before", linktest.Addresses(t, "w0"), first.Address)
	}
	unix.Kill(netd.pid, unix.SIGTERM)
	if err := netd.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM netd ends with %v", err)
	}
	if !has(t, first.Address.String())() {
		t.Error("SIGTERM took the address away")
	}
}

// An idle netd does nothing at all, whatever other traffic there is on the link: hardly anything wakes it.
func TestIdle(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.dnsmasq(smallRange)
	netd := d.spawn()
	d.eventually("lease", func() bool { return strings.Contains(d.log.String(), "lease bound") })
	d.eventually("the end of the check of the address", checked)
	d.eventually("three seconds with ten wake-ups at most", func() bool {
		before := netd.usage()
		time.Sleep(3 * time.Second) // sleep: the rest that is looked at
		after := netd.usage()
		t.Logf("idle: %d wake-ups in 3 s, %s of CPU, %d kB private", after.wakeups-before.wakeups, after.cpu-before.cpu,
			after.private)
		return after.wakeups-before.wakeups <= 10
	})
}
