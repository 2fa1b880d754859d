package modems

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/net/assignment"
	"resinos/net/inforce"
	"resinos/net/keyvalue"
	"resinos/net/link"
	"resinos/net/modemstate"
	"resinos/net/profile"
)

// device is netd's side with a sysfs that a test can plug a modem into.
type device struct {
	t     *testing.T
	set   *Set
	files *inforce.Set
	sys   string
	moved chan struct{}
}

func start(t *testing.T) device {
	t.Helper()
	d := device{t: t, sys: t.TempDir(), moved: make(chan struct{}, 16)}
	d.files = inforce.New(t.TempDir(), nil, slog.New(slog.DiscardHandler))
	events := make(chan func(time.Duration))
	d.set = New(filepath.Join(t.TempDir(), "modem"), d.sys, Owner{Files: d.files, Events: events,
		Moved: func(time.Duration) { d.moved <- struct{}{} }, Log: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.set.Run(ctx)
	}()
	go func() {
		for {
			select {
			case run := <-events:
				run(0)
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return d
}

// ask has a key file ask for a modem, or none.
func (d device) ask(files ...string) {
	d.files.Entries = nil
	for _, f := range files {
		p := profile.Profile{Connection: profile.Connection{Type: profile.TypeGSM, Autoconnect: true},
			GSM: &profile.GSM{APN: "internet", PIN: keyvalue.NewSecret("1234")}}
		d.files.Entries = append(d.files.Entries, assignment.Entry{File: f, Profile: p})
	}
	d.set.Drive()
}

func (d device) wanted() (w modemstate.Wanted, there bool) {
	there, err := modemstate.Read(d.set.directory, modemstate.WantedFile, &w)
	if err != nil {
		d.t.Error(err)
	}
	return w, there
}

func (d device) plug() {
	d.t.Helper()
	dir := filepath.Join(d.sys, "devices/pci/wwan/wwan0/wwan0at0")
	for _, err := range []error{os.MkdirAll(dir, 0o755), os.Symlink("..", filepath.Join(dir, "device")),
		os.MkdirAll(filepath.Join(d.sys, "class/wwan"), 0o755),
		os.Symlink(dir, filepath.Join(d.sys, "class/wwan/wwan0at0"))} {
		if err != nil {
			d.t.Fatal(err)
		}
	}
}

func TestProgramIsWantedWhileBothAreThere(t *testing.T) {
	d := start(t)
	d.ask("mobile")
	testenv.WaitFor(t, "the directory", func() bool { _, err := os.Stat(d.set.directory); return err == nil })
	if _, there := d.wanted(); there {
		t.Error("the program is wanted without a modem")
	}
	d.plug()
	d.ask("mobile", "second") // looks again
	testenv.WaitFor(t, "the wish", func() bool { w, there := d.wanted(); return there && len(w.Profiles) == 2 })
	w, _ := d.wanted()
	if p := w.Profiles[0]; p.File != "mobile" || p.APN != "internet" || p.PIN != "1234" {
		t.Errorf("wanted is %+v", w)
	}
	info, err := os.Stat(filepath.Join(d.set.directory, modemstate.WantedFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file with secrets has mode %v, %v", info.Mode(), err)
	}
	d.ask()
	testenv.WaitFor(t, "the end of the wish", func() bool { _, there := d.wanted(); return !there })
}

func TestLinkGetsWhatTheNetworkSays(t *testing.T) {
	d := start(t)
	d.plug()
	d.ask("mobile")
	testenv.WaitFor(t, "the wish", func() bool { _, there := d.wanted(); return there })
	bearer := modemstate.Bearer{Link: "wwan0", Address: netip.MustParsePrefix("10.1.2.3/30"), MTU: 1430,
		Servers: []netip.Addr{netip.MustParseAddr("10.9.9.9")}}
	connected := modemstate.State{Modems: []modemstate.Modem{{Port: "cdc-wdm0", File: "mobile",
		Phase: modemstate.Connected, Bearer: bearer}}}
	if err := modemstate.Write(d.set.directory, modemstate.StateFile, connected); err != nil {
		t.Fatal(err)
	}
	testenv.Receive(t, "that links have changed", (<-chan struct{})(d.moved))
	if d.files.Bearers["wwan0"] != "mobile" {
		t.Errorf("links of modems are %v", d.files.Bearers)
	}
	var w link.Wanted
	source := Bearer{Set: d.set, Link: "wwan0", Metric: 705}
	source.Want(0, &w)
	if len(w.Addresses) != 1 || len(w.Routes) != 1 || w.Routes[0].Metric != 705 || w.MTU != 1430 {
		t.Errorf("the link gets %+v", w)
	}
	if names, any := source.Names(); !any || len(names.Servers) != 1 {
		t.Errorf("the link has the name servers %v", names.Servers)
	}
	source.Ignore = Ignored{Route: true, Names: true}
	w = link.Wanted{}
	source.Want(0, &w)
	if _, any := source.Names(); any || len(w.Routes) != 0 {
		t.Errorf("what the profile refuses is used: %+v", w)
	}

	if err := modemstate.Write(d.set.directory, modemstate.StateFile, modemstate.State{}); err != nil {
		t.Fatal(err)
	}
	testenv.Receive(t, "that links have changed", (<-chan struct{})(d.moved))
	w = link.Wanted{}
	source.Want(0, &w)
	if len(w.Addresses)+len(w.Routes) > 0 || len(d.files.Bearers) > 0 {
		t.Errorf("a modem that is gone gives %+v", w)
	}
}
