package netd

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"resinos/net/assignment"
	"resinos/net/dhcpclient"
	"resinos/net/inforce"
	"resinos/net/link"
	"resinos/net/linksource"
	"resinos/net/ndwatch"
	"resinos/net/nic"
	"resinos/net/reach"
	"resinos/net/resolv"
)

// claim is one link that a profile claims. Its sources decide what it gets.
type claim struct {
	link    link.Link
	metric  int
	entry   *assignment.Entry // the key file; nil: without one
	static  assignment.Static
	written int64 // when the key file was written, for netstate
	daemon  *daemon
	fault   string // why it is not as wanted; empty: it is
	mtu     int    // of the link when it was found, to be restored
	sources []linksource.Source
	retry   time.Duration // when to look at the link again without an event; 0: never
	planned time.Duration // when steps were last applied
	log     *slog.Logger
}

// defaultMTU is the MTU of ethernet.
const defaultMTU = 1500

// The pauses before a link is corrected again, if somebody else keeps changing it or the kernel refuses a step.
const (
	planPause  = 1 * time.Second
	faultPause = 10 * time.Second
)

// survey looks at every link, and at every claimed link that may be gone.
func (d *daemon) survey(at time.Duration) {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		d.cfg.Log.Error("links not listed", "error", err)
		return
	}
	d.assign()
	for index := range d.claims {
		d.look(at, index)
	}
	for _, l := range links {
		if d.claims[l.Attrs().Index] == nil {
			d.look(at, l.Attrs().Index)
		}
	}
}

// look updates what the daemon knows about one link, and claims or releases the link.
func (d *daemon) look(at time.Duration, index int) {
	actual, err := link.Observe(d.cfg.SysRoot, index)
	c := d.claims[index]
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.cfg.Log.Warn("link not read", "link", index, "error", err)
		} else if c != nil {
			d.release(c, "link gone")
		}
		return
	}
	other := c == nil || c.link.Name != actual.Link.Name || c.link.Hardware != actual.Link.Hardware
	if other || c.link.Kind != actual.Link.Kind {
		d.assign()
	}
	if actual.Link.Kind == link.Wifi {
		d.radios.Kick()
	}
	p := d.files.Given(actual.Link)
	if c != nil && (!p.Ours || other || !c.same(p)) {
		d.release(c, "link changed")
		if c.static.Wanted.Master != nil && p.Static.Wanted.Master == nil {
			d.apply(link.Plan(link.Wanted{Master: new(int)}, actual), c.log) // it leaves its bridge
		}
		if !p.Ours {
			d.apply(link.Plan(link.Wanted{}, actual), c.log) // what its profile gave it goes
		}
		c = nil
	}
	switch {
	case c != nil:
	case p.Ours:
		c = d.claim(at, p, actual)
		defer d.claimed(at, c)
	case actual.Link.Kind == link.Loopback && !actual.Link.Up:
		d.apply(link.Plan(link.Wanted{Up: true}, link.Actual{Link: actual.Link}), d.cfg.Log)
		return
	default:
		return
	}
	d.settle(at, c, actual)
}

// claimed does what a link gets once, when it has all else, and looks at the ports that have waited for it.
func (d *daemon) claimed(at time.Duration, c *claim) {
	if err := nic.Apply(c.link.Index, c.link.Name, c.static.Card); err != nil {
		c.static.Notes = append(c.static.Notes, err.Error())
		c.log.Warn("key file not carried out whole", "file", c.entry.File, "warning", err)
	}
	if c.entry == nil || !assignment.Creates(c.entry.Profile) {
		return
	}
	for index, port := range d.claims {
		if port.entry != nil && port.entry.Profile.Connection.PortType != "" && port.static.Wanted.Master == nil {
			d.look(at, index)
		}
	}
}

// claim claims a link: sets it up and adopts the lease of an earlier netd.
func (d *daemon) claim(at time.Duration, p inforce.Given, actual link.Actual) *claim {
	l := actual.Link
	d.share(&p.Static, l.Index, l.Name)
	c := &claim{link: l, metric: p.Static.Metric, mtu: l.MTU, entry: p.Entry, static: p.Static, daemon: d,
		written: d.written(p.Entry)}
	c.log = d.cfg.Log.With("link", l.Name)
	if was, changed := d.mtus[l.Index]; changed {
		c.mtu = was
	}
	if p.Static.Wanted.MTU != 0 {
		d.mtus[l.Index] = c.mtu
	} else {
		delete(d.mtus, l.Index)
	}
	c.restoreIPv6(actual)
	c.link.Carrier = false // so that settle informs the sources
	d.claims[l.Index] = c
	file := ""
	if p.Entry != nil {
		file = p.Entry.File
		c.sources = append(c.sources, given{c})
		for _, note := range p.Static.Notes {
			c.log.Warn("key file not carried out whole", "file", file, "warning", note)
		}
	}
	c.log.Info("link claimed", "kind", l.Kind, "hardware", l.Hardware, "metric", c.metric, "file", file)
	if len(c.static.Rules) > 0 {
		d.applyRules()
	}
	if l.Kind == link.Modem && p.Entry != nil {
		c.sources = append(c.sources, d.modems.Source(l.Name, c.metric, p.Entry.Profile))
	}
	if p.Static.DHCP {
		client := d.newDHCP(c)
		c.sources = append(c.sources, client)
		if client.Adopt(at, actual) {
			c.mtu = defaultMTU // the original one is not known any more
		}
	}
	if p.Static.Routers {
		c.sources = append(c.sources, d.newAutoconf(at, c, actual))
	}
	if c.takesPrefixes() {
		c.sources = append(c.sources, d.delegated.Source(l.Name, p.Static.Metric6))
	}
	return c
}

// newDHCP returns the DHCP client of a link.
func (d *daemon) newDHCP(c *claim) *dhcpclient.Client {
	cfg := dhcpclient.Config{
		Link: c.link, Metric: c.metric, OwnMTU: c.static.Wanted.MTU != 0, LeaseDir: d.cfg.LeaseDir, Hold: d.cfg.Hold,
		Memory:   d.cfg.LeaseMemory,
		Hostname: d.hostname, Leased: d.announcer.Tell, Owner: d.owner(c), Log: c.log,
	}
	if c.entry != nil {
		cfg.Profile = &c.entry.Profile
	}
	return dhcpclient.New(cfg)
}

// owner is what the sources of a link may ask for.
func (d *daemon) owner(c *claim) linksource.Owner {
	return linksource.Owner{
		Configure:    func(at time.Duration) { d.configure(at, c) },
		NamesChanged: d.writeResolv,
		Events:       d.events,
	}
}

// settle applies what the link lacks and informs the sources about the carrier.
func (d *daemon) settle(at time.Duration, c *claim, actual link.Actual) {
	d.stale = true
	steps := link.Plan(c.wanted(at), actual)
	if len(steps) > 0 && c.planned != 0 && at-c.planned < planPause {
		c.retry = c.planned + planPause
	} else if len(steps) > 0 {
		c.planned = at
		if !d.apply(steps, c.log) {
			c.retry = at + faultPause
		}
		c.fault = d.lastFault
		if again, err := link.Observe(d.cfg.SysRoot, c.link.Index); err == nil {
			actual = again // setting a link up may have given it a carrier
		}
	}
	had := c.link.Carrier
	c.link = actual.Link
	if c.link.Carrier == had {
		return
	}
	if had {
		c.log.Info("carrier lost")
	}
	for _, s := range c.sources {
		s.Carrier(at, c.link.Carrier)
	}
}

// release gives a link up. Its lease file stays for the next time.
func (d *daemon) release(c *claim, why string) {
	c.log.Info("link released", "reason", why)
	c.close()
	delete(d.claims, c.link.Index)
	d.writeResolv()
}

// same reports whether the claim is what the link gets now.
func (c *claim) same(p inforce.Given) bool {
	if (c.entry == nil) != (p.Entry == nil) {
		return false
	}
	return c.entry == nil || reflect.DeepEqual(*c.entry, *p.Entry) &&
		reflect.DeepEqual(c.static.Wanted.Master, p.Static.Wanted.Master)
}

func (c *claim) wanted(at time.Duration) link.Wanted {
	w := link.Wanted{Up: true, SkipsDown: true, MTU: c.mtu}
	for _, s := range c.sources {
		s.Want(at, &w)
	}
	c.daemon.lower(c.link.Index, &w)
	c.routerMetric(&w)
	return w
}

func (c *claim) close() {
	for _, s := range c.sources {
		s.Close()
	}
}

// apply carries out steps and logs each. It reports whether all succeeded.
func (d *daemon) apply(steps []link.Step, log *slog.Logger) bool {
	for _, s := range steps {
		log.Debug("link step", "step", s.String())
	}
	d.lastFault = ""
	err := link.Apply(steps)
	for _, s := range steps {
		if s.Verb == link.SetIPv6 && s.Setting.Name == ndwatch.RouterMetric {
			d.solicit(s.Index) // their next advertisement changes the route
		}
	}
	if err != nil {
		d.lastFault = err.Error()
		log.Warn("link not as wanted", "error", err)
	}
	return err == nil
}

// configure configures the link as its sources want it now.
func (d *daemon) configure(at time.Duration, c *claim) {
	actual, err := link.Observe(d.cfg.SysRoot, c.link.Index)
	if err != nil {
		c.log.Warn("link not read", "error", err)
		c.retry = at + faultPause
		return
	}
	if !d.apply(link.Plan(c.wanted(at), actual), c.log) {
		c.retry = at + faultPause
	}
	c.fault = d.lastFault
}

func (d *daemon) writeResolv() {
	d.stale = true
	var sources []resolv.Source
	lowered := d.reach.Penalised()
	var silent []string
	for _, c := range d.claims {
		if c.entry != nil && c.entry.Profile.Silent() {
			silent = append(silent, c.link.Name)
		}
		for _, s := range c.sources {
			if one, any := s.Names(); any {
				one = c.static.Prioritised(one)
				if lowered[c.link.Index] {
					one.Metric += reach.Penalty
				}
				sources = append(sources, one)
			}
		}
	}
	sources = d.wish.sources(sources)
	d.cfg.Names(sources)
	slices.Sort(silent)
	d.cfg.Silent(silent)
	for _, file := range []struct {
		path    string
		content []byte
	}{
		{d.cfg.ResolvPath, resolv.Render(sources, d.cfg.Forwarder)},
		{d.cfg.ServersPath, resolv.Render(sources, netip.Addr{})},
	} {
		if file.path == "" {
			continue
		}
		if err := resolv.Write(file.path, file.content); err != nil {
			d.cfg.Log.Warn("resolv.conf not written", "error", err)
		}
	}
}
