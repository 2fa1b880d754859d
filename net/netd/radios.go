package netd

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"time"

	"resinos/net/link"
	"resinos/net/netcontrol"
	"resinos/net/wifi"
	"resinos/services/control"
)

// radios connects the daemon with the driver of the radios. The nil value has none.
type radios struct {
	daemon *daemon
	driver *wifi.Driver
	wanted wifi.Wanted
	states map[string]wifi.State // by name of the link
	ctx    context.Context       // of run
}

// newRadios returns nil if the radios are left alone. What they had joined before counts as joined, so that no address
// is lost while the driver looks.
func newRadios(d *daemon) *radios {
	if d.cfg.WiFi == "" {
		return nil
	}
	r := &radios{daemon: d}
	r.driver = wifi.New(wifi.Config{Directory: d.cfg.WiFi, Changed: r.changed, Log: d.cfg.Log})
	d.files.Joined = r.driver.JoinedBefore()
	return r
}

func (r *radios) run(ctx context.Context) {
	r.ctx = ctx
	r.driver.Run(ctx)
}

// kick has the driver look after a radio that the kernel has changed.
func (r *radios) kick() {
	if r != nil {
		r.driver.Kick()
	}
}

// changed brings the states into the daemon's goroutine. The driver calls it.
func (r *radios) changed(states map[string]wifi.State) {
	select {
	case r.daemon.events <- func(at time.Duration) { r.take(at, states) }:
	case <-r.ctx.Done():
	}
}

// take takes states over. A radio that has joined another network gets what the profile of this network says.
func (r *radios) take(at time.Duration, states map[string]wifi.State) {
	r.states = states
	moved := false
	for name, s := range states {
		if (s.Phase == wifi.Joined || s.Phase == wifi.Serving) && r.daemon.files.Joined[name] != s.File {
			r.daemon.files.Joined[name], moved = s.File, true
		}
	}
	if moved {
		r.daemon.survey(at)
		r.daemon.applyRules()
	}
}

// driveRadios tells the driver what the key files ask of the radios.
func (d *daemon) driveRadios() {
	r := d.radios
	if r == nil {
		return
	}
	w := wifi.Wanted{Country: d.wish.country, OpenScan: d.wish.openScan, Radios: map[string][]wifi.Network{}}
	for index, entries := range d.files.Radios {
		name := d.files.Names[index]
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

// look reads how well the radios hear. Without an answer the last figures count.
func (r *radios) look(ctx context.Context) {
	if r == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if states, err := r.driver.States(ctx); err == nil {
		_ = r.daemon.within(ctx, func(time.Duration) { r.states = states }) // the same
	}
}

// status shows a radio; nil if nothing is wanted of it.
func (r *radios) status(name string) *netcontrol.Radio {
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

// notes says what of a radio's profiles cannot be had.
func (r *radios) notes(name string) []string {
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

// scan answers which access points are in range.
func (d *daemon) scan(ctx context.Context, _ json.RawMessage) (any, error) {
	if d.radios == nil {
		return nil, wifi.ErrNoRadio
	}
	var names []string
	err := d.within(ctx, func(time.Duration) { names = d.radioNames() })
	if err != nil {
		return nil, err
	}
	found, err := d.radios.driver.Scan(ctx, names)
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

// radioNames lists the links that are radios.
func (d *daemon) radioNames() []string {
	var names []string
	for _, s := range d.status().Links {
		if s.Kind == string(link.Wifi) {
			names = append(names, s.Name)
		}
	}
	return names
}
