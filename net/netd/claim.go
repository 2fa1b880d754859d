package netd

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"

	"resinos/mounts/atomicfile"
	"resinos/net/lease"
	"resinos/net/link"
	"resinos/net/resolv"
)

// claim is one link that a profile gave us, with its DHCP client.
type claim struct {
	link    link.Link
	metric  int
	mtu     int // of the link when it was found, to go back to
	machine *lease.Machine
	ear     *receiver       // open while the machine listens
	near    *neighbours     // open while the machine checks an address
	retry   time.Duration   // when to look at the link again although nothing was heard; 0: never
	planned time.Duration   // when steps were last applied
	noted   map[string]bool // remarks logged since noting
	noting  time.Duration
	log     *slog.Logger
}

// defaultMTU is that of ethernet.
const defaultMTU = 1500

// The pace at which a link is put right again when something else keeps changing it, or the kernel refuses a step.
const (
	planPause  = 1 * time.Second
	faultPause = 10 * time.Second
)

// survey looks at every link there is, and at every claimed one that may be gone.
func (d *daemon) survey(at time.Duration) {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		d.cfg.Log.Error("links not listed", "error", err)
		return
	}
	for index := range d.claims {
		d.look(at, index)
	}
	for _, l := range links {
		if d.claims[l.Attrs().Index] == nil {
			d.look(at, l.Attrs().Index)
		}
	}
}

// look brings what we hold about one link into line with what is there.
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
	profile, ours := link.Choose(d.cfg.Profiles, actual.Link)
	ours = ours && profile.Method == link.DHCP && len(actual.Link.Hardware) == len("52:54:00:12:34:56")
	if c != nil && (!ours || c.link.Name != actual.Link.Name || c.link.Hardware != actual.Link.Hardware) {
		d.release(c, "link changed")
		c = nil
	}
	switch {
	case c != nil:
	case ours:
		c = d.claim(at, profile, actual)
	case actual.Link.Kind == link.Loopback && !actual.Link.Up:
		d.apply(link.Plan(link.Wanted{Up: true}, link.Actual{Link: actual.Link}), d.cfg.Log)
		return
	default:
		return
	}
	d.settle(at, c, actual)
}

// claim takes a link: it is set up, and the lease of an earlier netd is taken over.
func (d *daemon) claim(at time.Duration, p link.Profile, actual link.Actual) *claim {
	l := actual.Link
	hardware, _ := net.ParseMAC(l.Hardware) // the kernel wrote it
	c := &claim{
		link: l, metric: p.MetricFor(l), mtu: l.MTU,
		log: d.cfg.Log.With("link", l.Name),
		machine: lease.New(lease.Config{
			Link: l.Name, Hardware: hardware, Hostname: d.hostname(), Hold: d.cfg.Hold, Random: random,
		}),
	}
	c.link.Carrier = false // so that settle tells the machine
	d.claims[l.Index] = c
	c.log.Info("link claimed", "kind", l.Kind, "hardware", l.Hardware, "metric", c.metric)
	old, err := lease.Load(d.cfg.LeaseDir, l.Name)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.log.Warn("old lease not usable", "error", err)
		}
		return c
	}
	if c.machine.Adopt(at, old, configured(actual, old)) {
		c.log.Info("old lease found", "address", old.Address, "in_use", configured(actual, old))
	}
	if held, inUse := c.machine.Lease(); inUse {
		if held.MTU != 0 {
			c.mtu = defaultMTU // what is on the link is the lease's, and what was before died with the old netd
		}
		d.writeResolv()
		d.announcer.tell(held)
	}
	return c
}

// configured reports whether the lease's address is on the link.
func configured(actual link.Actual, l lease.Lease) bool {
	for _, a := range actual.Addresses {
		if a.Prefix == l.Address {
			return true
		}
	}
	return false
}

// settle applies what the link lacks and tells the machine about the carrier.
func (d *daemon) settle(at time.Duration, c *claim, actual link.Actual) {
	steps := link.Plan(c.wanted(at), actual)
	if len(steps) > 0 && c.planned != 0 && at-c.planned < planPause {
		c.retry = c.planned + planPause
	} else if len(steps) > 0 {
		c.planned = at
		if !d.apply(steps, c.log) {
			c.retry = at + faultPause
		}
		if again, err := link.Observe(d.cfg.SysRoot, c.link.Index); err == nil {
			actual = again // setting a link up may have brought its carrier
		}
	}
	had := c.link.Carrier
	c.link = actual.Link
	switch {
	case c.link.Carrier && !had:
		c.machine.SetHostname(d.hostname())
		d.step(at, c, lease.Carrier, nil)
	case !c.link.Carrier && had:
		c.log.Info("carrier lost")
		d.step(at, c, lease.NoCarrier, nil)
	}
}

// release gives a link back. Its lease file stays for when it comes again.
func (d *daemon) release(c *claim, why string) {
	c.log.Info("link released", "reason", why)
	c.hush()
	c.unwatch()
	delete(d.claims, c.link.Index)
	d.writeResolv()
}

func (c *claim) wanted(at time.Duration) link.Wanted {
	if held, inUse := c.machine.Lease(); inUse {
		return wanted(&held, c.metric, c.mtu, at)
	}
	return wanted(nil, c.metric, c.mtu, at)
}

// apply carries out steps and logs each. It reports whether all went well.
func (d *daemon) apply(steps []link.Step, log *slog.Logger) bool {
	for _, s := range steps {
		log.Debug("link step", "step", s.String())
	}
	if err := link.Apply(steps); err != nil {
		log.Warn("link not as wanted", "error", err)
		return false
	}
	return true
}

// receive takes a message from a receiver, unless that receiver has been closed since.
func (d *daemon) receive(at time.Duration, m message) {
	c := d.claims[m.index]
	if c == nil || c.ear != m.from {
		return
	}
	reply, err := lease.Parse(m.bytes)
	if err != nil {
		c.note(at, err.Error())
		return
	}
	d.step(at, c, lease.Reply, reply)
}

// step gives the machine one event and does what it says.
func (d *daemon) step(at time.Duration, c *claim, e lease.Event, reply *dhcpv4.DHCPv4) {
	before := c.machine.State()
	actions := c.machine.Step(at, e, reply)
	if after := c.machine.State(); after != before {
		c.log.Debug("lease state", "state", after.String(), "was", before.String())
	}
	d.carry(at, c, actions)
}

// carry does what the machine says, with its sockets open.
func (d *daemon) carry(at time.Duration, c *claim, actions []lease.Action) {
	d.listen(at, c)
	if _, on := c.machine.Checking(); on {
		d.watchAddress(at, c) // before the first question
	}
	for _, a := range actions {
		d.act(at, c, a)
	}
	d.watchAddress(at, c) // after the last one
	if !c.machine.Remembers() {
		d.forget(c)
	}
}

func (d *daemon) act(at time.Duration, c *claim, a lease.Action) {
	switch a.Verb {
	case lease.Broadcast, lease.Unicast:
		c.send(at, a)
	case lease.Use:
		d.configure(at, c)
		d.save(c, a.Lease)
		d.writeResolv()
		c.log.Info("lease bound", "address", a.Lease.Address, "server", a.Lease.Server, "length", a.Lease.Length)
		d.announcer.tell(a.Lease)
	case lease.Drop:
		c.log.Warn("lease dropped", "address", a.Lease.Address, "reason", a.Reason)
		d.configure(at, c)
		d.writeResolv()
	case lease.Probe, lease.Announce:
		c.question(at, a.Verb)
	case lease.Ignore:
		c.log.Debug("message ignored", "reason", a.Reason)
	case lease.Note:
		c.note(at, a.Reason)
	}
}

// configure brings the link into line with the machine's lease at once.
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
}

func (d *daemon) save(c *claim, l lease.Lease) {
	text, err := l.MarshalJSON()
	if err == nil {
		err = atomicfile.Write(lease.Path(d.cfg.LeaseDir, l.Link), append(text, '\n'), 0o644)
	}
	if err != nil {
		c.log.Warn("lease not saved", "error", err)
	}
}

func (d *daemon) forget(c *claim) {
	if err := os.Remove(lease.Path(d.cfg.LeaseDir, c.link.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("old lease not removed", "error", err)
	}
}

func (d *daemon) writeResolv() {
	var sources []resolv.Source
	for _, c := range d.claims {
		if l, inUse := c.machine.Lease(); inUse {
			sources = append(sources, resolv.Source{
				Link: l.Link, Metric: c.metric, Servers: l.DNS, Search: l.SearchDomains(),
			})
		}
	}
	if err := resolv.Write(d.cfg.ResolvPath, resolv.Render(d.wish.sources(sources))); err != nil {
		d.cfg.Log.Warn("resolv.conf not written", "error", err)
	}
}
