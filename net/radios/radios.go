// Package radios connects netd with the driver of the radios: it passes the wishes of the key files to the driver, and
// the results to the goroutine of netd. It decides nothing: assignment and net/wifi do. Read Set first.
package radios

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strconv"
	"time"

	"resinos/net/inforce"
	"resinos/net/netcontrol"
	"resinos/net/wifi"
	"resinos/services/control"
)

// Owner is what a Set uses of netd. Only the goroutine of netd calls Moved.
type Owner struct {
	Files  *inforce.Set
	Events chan<- func(at time.Duration) // what the goroutine of netd is to run
	Moved  func(at time.Duration)        // a radio is in another network: links have other profiles
	Log    *slog.Logger
}

// Set is the radios of a device. The nil value has none. Only Look, Scan and Run may be called beside netd's goroutine.
type Set struct {
	owner  Owner
	driver *wifi.Driver
	wanted wifi.Wanted
	states map[string]wifi.State // by name of the link
	ctx    context.Context       // of run
}

// New returns nil if directory is empty: the radios are left alone. What they had joined before counts as joined, so
// that no address is lost while the driver looks.
func New(directory string, owner Owner) *Set {
	if directory == "" {
		return nil
	}
	r := &Set{owner: owner}
	r.driver = wifi.New(wifi.Config{Directory: directory, Changed: r.changed, Log: owner.Log})
	owner.Files.Joined = r.driver.JoinedBefore()
	return r
}

// Run drives the radios until ctx ends.
func (r *Set) Run(ctx context.Context) {
	r.ctx = ctx
	r.driver.Run(ctx)
}

// Kick has the driver look after a radio that the kernel has changed.
func (r *Set) Kick() {
	if r != nil {
		r.driver.Kick()
	}
}

// changed brings the states into the daemon's goroutine. The driver calls it.
func (r *Set) changed(states map[string]wifi.State) {
	select {
	case r.owner.Events <- func(at time.Duration) { r.take(at, states) }:
	case <-r.ctx.Done():
	}
}

// take takes states over. A radio that has joined another network gets what the profile of this network says.
func (r *Set) take(at time.Duration, states map[string]wifi.State) {
	r.states = states
	moved := false
	for name, s := range states {
		if (s.Phase == wifi.Joined || s.Phase == wifi.Serving) && r.owner.Files.Joined[name] != s.File {
			r.owner.Files.Joined[name], moved = s.File, true
		}
	}
	if moved {
		r.owner.Moved(at)
	}
}

// Drive tells the driver what the key files ask of the radios.
func (r *Set) Drive(country string, openScan bool) {
	if r == nil {
		return
	}
	w := wifi.Wanted{Country: country, OpenScan: openScan, Radios: map[string][]wifi.Network{}}
	for index, entries := range r.owner.Files.Radios {
		name := r.owner.Files.Names[index]
		for _, e := range entries {
			w.Radios[name] = append(w.Radios[name], wifi.For(e.File, e.Profile, r.driver.Certificates()))
		}
	}
	if reflect.DeepEqual(w, r.wanted) {
		return
	}
	r.wanted = w
	r.driver.Want(w)
}

// Look reads how well the radios hear. Without an answer the last figures count.
func (r *Set) Look(ctx context.Context) {
	if r == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if states, err := r.driver.States(ctx); err == nil {
		select {
		case r.owner.Events <- func(time.Duration) { r.states = states }:
		case <-ctx.Done(): // the same
		}
	}
}

// Status shows a radio; nil if nothing is wanted of it.
func (r *Set) Status(name string) *netcontrol.Radio {
	if r == nil {
		return nil
	}
	s, known := r.states[name]
	if !known {
		return nil
	}
	return &netcontrol.Radio{State: string(s.Phase), File: s.File, SSID: printable(s.SSID), BSSID: s.BSSID,
		Frequency: s.Frequency, Signal: s.Signal, Reason: s.Reason, Words: s.Words()}
}

// printable shows a name that need not be text.
func printable(ssid string) string {
	quoted := strconv.Quote(ssid)
	return quoted[1 : len(quoted)-1]
}

// Notes says what of a radio's profiles cannot be had.
func (r *Set) Notes(name string) []string {
	if r == nil {
		return nil
	}
	var out []string
	for _, n := range r.wanted.Radios[name] {
		for _, note := range n.Notes {
			out = append(out, n.File+": "+note)
		}
		if n.Fault != "" {
			out = append(out, n.File+": "+n.Fault)
		}
	}
	return out
}

// Scan looks which access points are in range of the radios with these names.
func (r *Set) Scan(ctx context.Context, names []string) ([]netcontrol.AccessPoint, error) {
	if r == nil {
		return nil, wifi.ErrNoRadio
	}
	found, err := r.driver.Scan(ctx, names)
	if errors.Is(err, wifi.ErrNoRadio) {
		return nil, &control.Error{Text: err.Error(), Hint: "see which modules are loaded: osctl logs devd"}
	}
	out := []netcontrol.AccessPoint{}
	for _, b := range found {
		out = append(out, netcontrol.AccessPoint{SSID: printable(b.SSID), BSSID: b.Address, Frequency: b.Frequency,
			Signal: b.Signal, Security: b.Security()})
	}
	return out, err
}
