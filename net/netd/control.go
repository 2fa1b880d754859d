package netd

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"resinos/net/assignment"
	"resinos/net/link"
	"resinos/net/netcontrol"
	"resinos/net/netstatus"
	"resinos/net/ownlink"
	"resinos/net/profile"
	"resinos/net/sharing"
	"resinos/net/vpn"
	"resinos/net/wireguard"
	"resinos/services/control"
)

// answer serves netd's socket until ctx ends.
func (d *daemon) answer(ctx context.Context) {
	if err := control.Serve(ctx, d.cfg.Control, d.handlers(), d.cfg.Log); err != nil && ctx.Err() == nil {
		d.cfg.Log.Warn("socket not served", "socket", d.cfg.Control, "error", err)
	}
}

// within has the daemon's goroutine run do.
func (d *daemon) within(ctx context.Context, do func(at time.Duration)) error {
	done := make(chan struct{})
	select {
	case d.events <- func(at time.Duration) { do(at); close(done) }:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (d *daemon) handlers() map[string]control.Handler {
	change := func(up bool) control.Handler {
		return func(ctx context.Context, args json.RawMessage) (any, error) {
			var name netcontrol.Name
			if err := control.Args(args, &name); err != nil {
				return nil, err
			}
			var fault error
			err := d.within(ctx, func(at time.Duration) { fault = d.change(at, name.Name, up) })
			if err == nil {
				err = fault
			}
			return nil, err
		}
	}
	return map[string]control.Handler{
		netcontrol.OpUp:   change(true),
		netcontrol.OpDown: change(false),
		netcontrol.OpReload: func(ctx context.Context, _ json.RawMessage) (any, error) {
			return nil, d.within(ctx, func(at time.Duration) { d.reload(at) })
		},
		netcontrol.OpScan: d.scan,
		netcontrol.OpStatus: func(ctx context.Context, _ json.RawMessage) (any, error) {
			d.radios.Look(ctx)
			var s netcontrol.Status
			err := d.within(ctx, func(time.Duration) { s = d.status() })
			return s, err
		},
		netcontrol.OpWireGuardKey: func(context.Context, json.RawMessage) (any, error) {
			private, public, err := wireguard.NewKey()
			return netcontrol.KeyPair{Private: private.Reveal(), Public: public.String()}, err
		},
		netcontrol.OpPlan: func(ctx context.Context, _ json.RawMessage) (any, error) {
			var p []netcontrol.Planned
			err := d.within(ctx, func(at time.Duration) { p = d.planned(at) })
			return p, err
		},
	}
}

// change brings a profile up or takes it down, for as long as netd runs.
func (d *daemon) change(at time.Duration, name string, up bool) error {
	e, known := d.files.Named(name)
	for index, one := range d.files.Assigned {
		if held := d.claims[index]; !known && held != nil && held.link.Name == name {
			e, known = one, true
		}
	}
	if !known {
		return &control.Error{Text: fmt.Sprintf("no key file, id, UUID or link with a key file is called %q", name),
			Hint: "try: osctl net"}
	}
	d.files.Change(e, up)
	d.ensureLinks()
	d.survey(at)
	d.applyRules()
	if s := assignment.For(e.Profile, link.Link{}, 0, ""); up && s.Waiting != "" {
		return &control.Error{Text: s.Waiting}
	}
	modem := e.Profile.Connection.Type == profile.TypeGSM // which takes its time
	if up && !modem && !d.files.InForce(e) && d.vpns.Words(e.File) == "" {
		return &control.Error{Text: "no link has the profile " + e.Profile.Connection.ID, Hint: "try: osctl net"}
	}
	return nil
}

// status describes the network as it is now.
func (d *daemon) status() netcontrol.Status {
	s := netcontrol.Status{Links: []netcontrol.Link{}, Profiles: []netcontrol.Profile{}, Servers: []string{},
		Modems: d.modems.Status()}
	list, _ := netlink.LinkList() // what could be read is shown
	links := map[string][]string{}
	for _, l := range list {
		actual, err := link.Observe(d.cfg.SysRoot, l.Attrs().Index)
		if err != nil {
			continue // it has gone meanwhile
		}
		s.Links = append(s.Links, d.linkStatus(actual))
		if e, there := d.files.Assigned[actual.Link.Index]; there {
			links[e.File] = append(links[e.File], actual.Link.Name)
		}
	}
	for _, f := range d.files.Dir.Files {
		p := netcontrol.Profile{File: f.Name, Error: f.Error, Links: links[f.Name], State: "refused"}
		for _, w := range f.Warnings {
			p.Warnings = append(p.Warnings, w.String())
		}
		if f.Profile != nil {
			p.ID, p.Type = f.Profile.Connection.ID, f.Profile.Connection.Type
			p.State = d.files.State(assignment.Entry{File: f.Name, Profile: *f.Profile}, p.Links)
			p.Fault = d.own.Faults[f.Name]
			if words := d.vpns.Words(f.Name); words != "" {
				p.State, p.Warnings = words, append(p.Warnings, d.vpns.Notes(f.Name)...)
			}
		}
		s.Profiles = append(s.Profiles, p)
	}
	for _, index := range slices.Sorted(maps.Keys(d.claims)) {
		for _, r := range d.claims[index].static.Rules {
			s.Rules = append(s.Rules, r.String())
		}
	}
	s.Filter = netstatus.Rules(d.cfg.RulesState)
	if d.cfg.Status != nil {
		d.cfg.Status(&s)
	}
	for _, l := range s.Links {
		s.Servers = append(s.Servers, l.Servers...)
	}
	return s
}

func (d *daemon) linkStatus(a link.Actual) netcontrol.Link {
	l := netstatus.Link(a)
	l.Radio, l.Notes = d.radios.Status(l.Name), d.radios.Notes(l.Name)
	c := d.claims[a.Link.Index]
	if c == nil {
		return l
	}
	l.Routes = append(l.Routes, netstatus.Routers(a)...)
	f := d.reach.Finding(a.Link.Index)
	l.Reach, l.ReachReason = f.State.String(), f.Reason
	l.Lowered = d.reach.Penalised()[a.Link.Index]
	l.Managed, l.Error, l.Method = true, c.fault, "dhcp"
	l.Notes, l.Prefixes = append(l.Notes, c.static.Notes...), d.delegated.Words(l.Name)
	if c.entry != nil {
		l.File, l.Profile, l.Method = c.entry.File, c.entry.Profile.Connection.ID, "port"
		if ip := c.entry.Profile.IPv4; ip != nil {
			l.Method = ip.Method
		}
	}
	if c.static.Shared.IsValid() && d.cfg.SharedDir != "" {
		for _, g := range sharing.Leases(d.cfg.SharedDir, l.Name) {
			guest := netcontrol.Guest{Address: g.Address.String(), Hardware: g.Hardware, Name: g.Name}
			l.Guests = append(l.Guests, guest)
		}
	}
	for _, s := range c.sources {
		names, any := s.Names()
		if !any {
			continue
		}
		for _, server := range names.Servers {
			l.Servers = append(l.Servers, server.String())
		}
		l.Search = append(l.Search, names.Search...)
	}
	return l
}

// planned shows what every profile gives its link.
func (d *daemon) planned(at time.Duration) []netcontrol.Planned {
	out := []netcontrol.Planned{}
	for _, e := range d.files.Entries {
		p := netcontrol.Planned{File: e.File, Steps: []string{}, Left: []string{}}
		static := assignment.For(e.Profile, link.Link{}, 0, "")
		if static.Waiting != "" {
			p.Steps = append(p.Steps, "wait: "+static.Waiting)
		}
		p.Steps = append(append(p.Steps, ownlink.Fresh(e)...), vpn.Plan(e)...)
		for _, c := range assignment.Tunnels([]assignment.Entry{e}) {
			for _, step := range wireguard.Plan(c, wireguard.State{}, nil) {
				p.Steps = append(p.Steps, step.String())
			}
		}
		if why := d.own.Faults[e.File]; why != "" {
			p.Left = append(p.Left, why)
		}
		for _, index := range slices.Sorted(maps.Keys(d.files.Assigned)) {
			c := d.claims[index]
			if d.files.Assigned[index].File != e.File || c == nil {
				continue
			}
			p.Link = c.link.Name
			fresh := link.Actual{Link: link.Link{Index: index, Name: c.link.Name}, IPv6: map[string]string{}}
			for _, s := range c.static.Wanted.IPv6 {
				fresh.IPv6[s.Name] = ""
			}
			for _, step := range link.Plan(c.static.Wanted, fresh) {
				p.Steps = append(p.Steps, step.String())
			}
			for _, r := range c.static.Rules {
				p.Steps = append(p.Steps, "put rule "+r.String())
			}
			for _, step := range c.static.Card.Steps() {
				p.Steps = append(p.Steps, c.link.Name+": "+step)
			}
			if c.static.DHCP {
				p.Steps = append(p.Steps, c.link.Name+": ask a DHCP server")
			}
			if actual, err := link.Observe(d.cfg.SysRoot, index); err == nil {
				for _, step := range link.Plan(c.wanted(at), actual) {
					p.Left = append(p.Left, step.String())
				}
			}
		}
		out = append(out, p)
	}
	if d.cfg.Rules != nil {
		if rules := d.cfg.Rules(); len(rules) > 0 {
			out = append(out, netcontrol.Planned{File: "packet filter", Steps: rules, Left: []string{}})
		}
	}
	return out
}
