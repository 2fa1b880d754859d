package wifi

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"resinos/mounts/testenv"
	"resinos/net/wpa"
)

// radio is the link that stands for a radio: the supplicant's driver "none" takes any.
const radio = "lo"

// bench is a directory with a supplicant and a driver that serves it.
type bench struct {
	t       *testing.T
	dir     string
	log     *testenv.Log
	command *exec.Cmd
}

func newBench(t *testing.T) *bench {
	t.Helper()
	if os.Getuid() != 0 {
		testenv.Lacking(t, "root, which wpa_supplicant needs")
	}
	if _, err := exec.LookPath("wpa_supplicant"); err != nil {
		testenv.Lacking(t, "wpa_supplicant (Debian package wpasupplicant)")
	}
	b := &bench{t: t, dir: t.TempDir(), log: &testenv.Log{}}
	if err := os.WriteFile(filepath.Join(b.dir, "conf"), []byte("p2p_disabled=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

// supplicant starts one, as PID 1 does.
func (b *bench) supplicant() {
	b.t.Helper()
	b.command = exec.Command("wpa_supplicant", "-g", filepath.Join(b.dir, socketFile))
	b.command.Stdout, b.command.Stderr = b.log, b.log
	if err := b.command.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(b.kill)
}

func (b *bench) kill() {
	if b.command != nil {
		_ = b.command.Process.Kill() // it may have ended
		_ = b.command.Wait()
		b.command = nil
	}
}

// drive runs a driver until stop is called.
func (b *bench) drive() (d *Driver, stop func()) {
	ctx, cancel := context.WithCancel(b.t.Context())
	log := slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d = New(Config{Directory: b.dir, Conf: filepath.Join(b.dir, "conf"), Module: "none", Log: log})
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Run(ctx)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	b.t.Cleanup(stop)
	return d, stop
}

// identities lists the networks that the supplicant has: number and identity.
func (b *bench) identities() []string {
	b.t.Helper()
	c, err := wpa.Dial(b.t.Context(), filepath.Join(b.dir, socketFile))
	if err != nil {
		return nil
	}
	defer c.Close()
	reply, err := c.Request(b.t.Context(), wpa.On(radio, "LIST_NETWORKS"))
	if err != nil {
		return nil
	}
	var out []string
	for _, id := range wpa.NetworkIDs(reply) {
		text, _ := c.Request(b.t.Context(), wpa.On(radio, "GET_NETWORK "+id+" id_str"))
		out = append(out, id+" "+strings.Trim(text, `"`))
	}
	return out
}

func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	defer func() {
		if b.t.Failed() {
			b.t.Logf("log:\n%s", b.log)
		}
	}()
	testenv.WaitFor(b.t, what, ok)
}

// TestAccepted: Debian's wpa_supplicant takes every kind of network that For returns, and no secret is in a log.
func TestAccepted(t *testing.T) {
	b := newBench(t)
	b.supplicant()
	d, _ := b.drive()
	var wanted []Network
	for _, n := range profiles(t, d.Certificates()) {
		if n.Fault == "" {
			wanted = append(wanted, n)
		}
	}
	if len(wanted) < 15 {
		t.Fatalf("%d networks", len(wanted))
	}
	d.Want(Wanted{Country: "DE", Radios: map[string][]Network{radio: wanted}})
	b.eventually("all networks", func() bool { return len(b.identities()) == len(wanted) })
	if list, err := os.ReadDir(d.Certificates()); err != nil || len(list) != 1 {
		t.Errorf("%d certificates, %v", len(list), err)
	}
	d.Want(Wanted{Radios: map[string][]Network{radio: wanted[:1]}})
	b.eventually("one network", func() bool { return len(b.identities()) == 1 })
	b.eventually("no certificate", func() bool {
		list, _ := os.ReadDir(d.Certificates())
		return len(list) == 0
	})
	for _, secret := range []string{"hunter22", "correct horse", wpa.Hex("hunter22")} {
		if strings.Contains(b.log.String(), secret) {
			t.Errorf("the log shows %s", secret)
		}
	}
}

// TestLives: a network stays as it is over the end of a driver, a change of another one, and comes back when the
// supplicant was killed.
func TestLives(t *testing.T) {
	b := newBench(t)
	d, stop := b.drive()
	all := profiles(t, d.Certificates())
	at := func(file string) Network {
		return all[slices.IndexFunc(all, func(n Network) bool { return n.File == file })]
	}
	both := map[string][]Network{radio: {at("key"), at("shell-characters")}}
	d.Want(Wanted{Radios: both})
	b.eventually("the demand", func() bool { _, err := os.Stat(filepath.Join(b.dir, wantedFile)); return err == nil })
	b.supplicant()
	b.eventually("two networks", func() bool { return len(b.identities()) == 2 })
	if _, err := d.States(t.Context()); err != nil { // the driver has done all of it
		t.Fatal(err)
	}
	before := b.identities()
	stop()
	d, _ = b.drive()
	d.Want(Wanted{Radios: both})
	if states, err := d.States(t.Context()); err != nil {
		t.Errorf("states %v, %v", states, err)
	}
	other := at("key")
	other.Settings = append(slices.Clone(other.Settings), Setting{Name: "priority", Value: "7"})
	d.Want(Wanted{Radios: map[string][]Network{radio: {other, at("shell-characters")}}})
	b.eventually("the change", func() bool {
		now := b.identities()
		return len(now) == 2 && !slices.Equal(now, before) &&
			slices.ContainsFunc(now, func(id string) bool { return slices.Contains(before, id) })
	})
	b.kill()
	d.Kick()
	b.supplicant()
	b.eventually("both networks again", func() bool { return len(b.identities()) == 2 })
}

// TestRefused: one network that the supplicant refuses costs the others nothing, and the state says which it is.
func TestRefused(t *testing.T) {
	b := newBench(t)
	b.supplicant()
	d, _ := b.drive()
	good := Network{File: "good", Settings: []Setting{{Name: "ssid", Value: wpa.Hex("x")}}}
	bad := Network{File: "bad", Settings: []Setting{{Name: "nonsense", Value: "hunter22", Secret: true}}}
	d.Want(Wanted{Radios: map[string][]Network{radio: {bad, good}}})
	b.eventually("the good one alone", func() bool {
		ids := b.identities()
		return len(ids) == 1 && fileOf(strings.SplitN(ids[0], " ", 2)[1]) == "good"
	})
	b.eventually("the reason", func() bool {
		states, err := d.States(t.Context())
		return err == nil && strings.Contains(states[radio].Reason, "bad") &&
			!strings.Contains(states[radio].Reason, "hunter22")
	})
}
