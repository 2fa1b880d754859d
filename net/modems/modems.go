// Package modems connects netd with the program modem: while a modem is there, it passes the profiles that want one to
// the program, and passes the results to the goroutine of netd. It decides nothing about modems: net/cellular does.
// While no key file asks for a modem, it costs one goroutine that sleeps. Read Set first.
package modems

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
	"resinos/net/assignment"
	"resinos/net/inforce"
	"resinos/net/link"
	"resinos/net/modemports"
	"resinos/net/modemstate"
	"resinos/net/netcontrol"
	"resinos/net/profile"
	"resinos/net/resolv"
)

// Owner is what a Set uses of netd. Only the goroutine of netd calls Moved.
type Owner struct {
	Files  *inforce.Set
	Events chan<- func(at time.Duration) // what the goroutine of netd is to run
	Moved  func(at time.Duration)        // modems are connected otherwise: links have other profiles or addresses
	Log    *slog.Logger
}

// Set is the modems of a device. The nil value has none. Only Run may be called beside netd's goroutine.
type Set struct {
	owner     Owner
	directory string
	sys       string
	wanted    modemstate.Wanted
	wants     chan modemstate.Wanted // holds at most the newest
	state     modemstate.State
}

const (
	gone    = time.Minute      // how long a modem is waited for before the program is ended
	lookFor = 30 * time.Second // a modem, without an event
)

// New returns nil if directory is empty: modems are left alone. What was connected before stays so.
func New(directory, sys string, owner Owner) *Set {
	if directory == "" {
		return nil
	}
	owner.Files.Cellular = true
	s := &Set{owner: owner, directory: directory, sys: sys, wants: make(chan modemstate.Wanted, 1)}
	if _, err := modemstate.Read(directory, modemstate.StateFile, &s.state); err != nil {
		owner.Log.Warn("state of modems not read", "error", err)
	}
	s.connected()
	return s
}

// connected tells the key files in force which links are those of modems, and reports whether that has changed.
func (s *Set) connected() bool {
	bearers, leased := map[string]string{}, map[string]bool{}
	for _, m := range s.state.Modems {
		if m.Bearer.Link != "" && m.Phase == modemstate.Connected {
			bearers[m.Bearer.Link], leased[m.Bearer.Link] = m.File, m.Bearer.DHCP
		}
	}
	files := s.owner.Files
	changed := !reflect.DeepEqual(files.Bearers, bearers) || !reflect.DeepEqual(files.Leased, leased)
	files.Bearers, files.Leased = bearers, leased
	return changed
}

// Drive tells Run what the key files ask of modems. It never blocks.
func (s *Set) Drive() {
	if s == nil {
		return
	}
	var w modemstate.Wanted
	for _, e := range s.owner.Files.Modems() {
		w.Profiles = append(w.Profiles, profileOf(e))
	}
	if reflect.DeepEqual(w, s.wanted) {
		return
	}
	s.wanted = w
	for {
		select {
		case s.wants <- w:
			return
		case <-s.wants: // an older wish that Run has not seen
		}
	}
}

// profileOf is what a key file asks of a modem.
func profileOf(e assignment.Entry) modemstate.Profile {
	g := e.Profile.GSM
	return modemstate.Profile{File: e.File, APN: g.APN, User: g.Username,
		Password: g.Password.Reveal(), NetworkID: g.NetworkID, HomeOnly: g.HomeOnly, PIN: g.PIN.Reveal(),
		Port: e.Profile.Connection.InterfaceName, Device: g.DeviceID, SIM: g.SIM, Operator: g.SIMOperator}
}

// Run has the program started and ended until ctx ends. It leaves the program as it is.
func (s *Set) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-s.wants:
			for len(w.Profiles) > 0 && ctx.Err() == nil {
				w = s.follow(ctx, w)
			}
		}
	}
}

// follow does what is wanted until something else is wanted, and returns that.
func (s *Set) follow(ctx context.Context, w modemstate.Wanted) modemstate.Wanted {
	if err := os.MkdirAll(s.directory, 0o700); err != nil {
		s.owner.Log.Warn("modems not driven", "error", err)
	}
	kicks := make(chan struct{}, 1)
	var watches sync.WaitGroup
	defer watches.Wait()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	watches.Go(func() { s.watch(watching, s.directory, unix.IN_MOVED_TO, kicks) })
	watches.Go(func() { s.watch(watching, "/dev", unix.IN_CREATE|unix.IN_DELETE, kicks) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	seen := time.Time{} // the modem
	for {
		select {
		case <-ctx.Done():
			return modemstate.Wanted{}
		case next := <-s.wants:
			if len(next.Profiles) == 0 {
				s.unwant()
			}
			return next
		case <-kicks:
		case <-timer.C:
		}
		now := time.Now()
		if s.present(w) {
			seen = now
			s.want(w)
		} else if !seen.IsZero() && now.Sub(seen) >= gone {
			seen = time.Time{}
			s.unwant()
		}
		s.look(ctx)
		timer.Reset(lookFor)
	}
}

// watch kicks when something changes in a directory.
func (s *Set) watch(ctx context.Context, directory string, mask uint32, kicks chan<- struct{}) {
	w, err := dirwatch.Open(directory, mask, s.owner.Log)
	if err != nil {
		s.owner.Log.Warn("directory not watched", "error", err)
		return
	}
	defer w.Close() // it is read no more
	for w.Wait(ctx, 0) == nil {
		select {
		case kicks <- struct{}{}:
		default:
		}
	}
}

// present reports whether a modem is there.
func (s *Set) present(w modemstate.Wanted) bool {
	var named []string
	for _, p := range w.Profiles {
		named = append(named, p.Port)
	}
	return len(modemports.Find(s.sys, named)) > 0
}

// want writes the file that has PID 1 start the program, if it says something else.
func (s *Set) want(w modemstate.Wanted) {
	var before modemstate.Wanted
	if there, err := modemstate.Read(s.directory, modemstate.WantedFile, &before); there && err == nil &&
		reflect.DeepEqual(before, w) {
		return
	}
	if err := modemstate.Write(s.directory, modemstate.WantedFile, w); err != nil {
		s.owner.Log.Warn("modems not driven", "error", err)
	}
}

// unwant removes that file: the program ends.
func (s *Set) unwant() {
	err := os.Remove(filepath.Join(s.directory, modemstate.WantedFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.owner.Log.Warn("modems not left alone", "error", err)
	}
}

// look reads what the modems do.
func (s *Set) look(ctx context.Context) {
	var state modemstate.State
	if _, err := modemstate.Read(s.directory, modemstate.StateFile, &state); err != nil {
		s.owner.Log.Warn("state of modems not read", "error", err)
		return
	}
	select {
	case s.owner.Events <- func(at time.Duration) { s.take(at, state) }:
	case <-ctx.Done():
	}
}

// take takes states over.
func (s *Set) take(at time.Duration, state modemstate.State) {
	before := map[string]modemstate.Bearer{}
	for _, m := range s.state.Modems {
		before[m.Bearer.Link] = m.Bearer
	}
	s.state = state
	changed := s.connected()
	for _, m := range state.Modems {
		changed = changed || m.Bearer.Link != "" && !reflect.DeepEqual(before[m.Bearer.Link], m.Bearer)
	}
	if changed {
		s.owner.Moved(at)
	}
}

// Status returns what each modem does.
func (s *Set) Status() []netcontrol.Modem {
	if s == nil {
		return nil
	}
	var out []netcontrol.Modem
	for _, m := range s.state.Modems {
		out = append(out, netcontrol.Modem{Port: m.Port, File: m.File, State: string(m.Phase), Link: m.Bearer.Link,
			Reason: m.Reason, Operator: m.Operator, Technology: m.Technology, Roaming: m.Roaming, Signal: m.Signal,
			Words: m.Words()})
	}
	return out
}

// Bearer is the source of a link that a modem has connected: what the network gives it.
type Bearer struct {
	Set    *Set
	Link   string
	Metric int
	Ignore Ignored
}

// Ignored is what the profile refuses of the network.
type Ignored struct {
	Route, Names bool
}

// Source returns what the network of a modem gives its link, as far as the profile takes it.
func (s *Set) Source(name string, metric int, p profile.Profile) Bearer {
	b := Bearer{Set: s, Link: name, Metric: metric}
	if ip := p.IPv4; ip != nil {
		b.Ignore = Ignored{Route: ip.NeverDefault || ip.IgnoreRoutes, Names: ip.IgnoreDNS}
	}
	return b
}

// Want adds address and default route of the network. The address of PPP is pppd's.
func (b Bearer) Want(_ time.Duration, w *link.Wanted) {
	bearer, _, there := b.Set.state.By(b.Link)
	if !there || bearer.DHCP || !bearer.Address.IsValid() {
		return
	}
	if !bearer.Given {
		w.Addresses = append(w.Addresses, link.Address{Prefix: bearer.Address, Valid: link.Forever})
	}
	if bearer.MTU != 0 {
		w.MTU = bearer.MTU
	}
	if b.Ignore.Route {
		return
	}
	w.Routes = append(w.Routes, link.Route{Destination: netip.PrefixFrom(netip.IPv4Unspecified(), 0),
		Source: bearer.Address.Addr(), Metric: b.Metric}) // a modem has one peer: no gateway is needed
}

// Names returns the name servers of the network.
func (b Bearer) Names() (resolv.Source, bool) {
	bearer, _, there := b.Set.state.By(b.Link)
	if !there || bearer.DHCP || b.Ignore.Names {
		return resolv.Source{}, false
	}
	s := resolv.Source{Link: b.Link, Metric: b.Metric, Servers: bearer.Servers}
	return s, len(s.Servers) > 0
}

// The rest of a linksource.Source: a bearer does nothing by itself.

func (b Bearer) Carrier(time.Duration, bool) {}
func (b Bearer) Renamed(time.Duration)       {}
func (b Bearer) Deadline() time.Duration     { return 0 }
func (b Bearer) Tick(time.Duration)          {}
func (b Bearer) Close()                      {}
