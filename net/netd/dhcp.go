package netd

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"resinos/mounts/atomicfile"
	"resinos/net/assignment"
	"resinos/net/inforce"
	"resinos/net/lease"
	"resinos/net/link"
	"resinos/net/resolv"
)

// dhcp is a source: the DHCP client of one link, with its sockets.
type dhcp struct {
	*claim
	machine    *lease.Machine
	receiver   *receiver       // open while the machine listens
	neighbours *neighbours     // open while the machine checks an address
	noted      map[string]bool // notes that were logged since noting
	noting     time.Duration
}

// hostname is the name that the server gets: that of the key file, the device's, or none.
func (c *claim) hostname() string {
	if c.entry != nil && !c.entry.Profile.IPv4.SendHostname {
		return ""
	}
	if c.entry != nil && c.entry.Profile.IPv4.DHCPHostname != "" {
		return c.entry.Profile.IPv4.DHCPHostname
	}
	return c.daemon.hostname()
}

func (d *daemon) newDHCP(c *claim) *dhcp {
	hardware, _ := net.ParseMAC(c.link.Hardware) // the kernel wrote it
	return &dhcp{claim: c, machine: lease.New(lease.Config{
		Link: c.link.Name, Hardware: hardware, Hostname: c.hostname(), Hold: d.cfg.Hold, Random: random,
	})}
}

// adopt adopts the lease of an earlier netd.
func (c *dhcp) adopt(at time.Duration, actual link.Actual) {
	old, err := lease.Load(c.daemon.cfg.LeaseDir, c.link.Name)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.log.Warn("old lease not usable", "error", err)
		}
		return
	}
	if c.machine.Adopt(at, old, configured(actual, old)) {
		c.log.Info("old lease found", "address", old.Address, "in_use", configured(actual, old))
	}
	if held, inUse := c.machine.Lease(); inUse {
		if held.MTU != 0 {
			c.mtu = defaultMTU // the link's MTU is from the lease, and the original one is not known any more
		}
		c.daemon.writeResolv()
		c.daemon.announcer.tell(held)
	}
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

func (c *dhcp) want(at time.Duration, w *link.Wanted) {
	if held, inUse := c.machine.Lease(); inUse {
		var leased link.Wanted
		assignment.AddLease(&leased, held, c.metric, at)
		if c.entry != nil {
			inforce.Filter(&leased, c.entry.Profile.IPv4)
		}
		if leased.MTU != 0 && (c.entry == nil || c.static.Wanted.MTU == 0) {
			w.MTU = leased.MTU // the owner's MTU goes before that of the server
		}
		w.Addresses = append(w.Addresses, leased.Addresses...)
		w.Routes = append(w.Routes, leased.Routes...)
	}
}

func (c *dhcp) names() (resolv.Source, bool) {
	l, inUse := c.machine.Lease()
	if c.entry != nil && c.entry.Profile.IPv4.IgnoreDNS {
		return resolv.Source{}, false
	}
	return resolv.Source{Link: l.Link, Metric: c.metric, Servers: l.DNS, Search: l.SearchDomains()}, inUse
}

func (c *dhcp) carrier(at time.Duration, there bool) {
	event := lease.NoCarrier
	if there {
		c.machine.SetHostname(c.hostname())
		event = lease.Carrier
	}
	c.daemon.step(at, c, event, nil)
}

// renamed requests the same lease again, so that the server learns the new name at once. The link does not change.
func (c *dhcp) renamed(at time.Duration) {
	c.machine.SetHostname(c.hostname())
	if c.link.Carrier {
		c.carrier(at, false)
		c.carrier(at, true)
	}
}

func (c *dhcp) deadline() time.Duration { return c.machine.Deadline() }

func (c *dhcp) tick(at time.Duration) { c.daemon.step(at, c, lease.Timer, nil) }

func (c *dhcp) close() {
	c.hush()
	c.unwatch()
}

// receive processes a message from a receiver, unless that receiver has been closed meanwhile.
func (d *daemon) receive(at time.Duration, m message) {
	c := m.from.owner
	if c.receiver != m.from {
		return
	}
	reply, err := lease.Parse(m.bytes)
	if err != nil {
		c.note(at, err.Error())
		return
	}
	d.step(at, c, lease.Reply, reply)
}

// step passes one event to the machine and carries out its actions.
func (d *daemon) step(at time.Duration, c *dhcp, e lease.Event, reply *dhcpv4.DHCPv4) {
	before := c.machine.State()
	actions := c.machine.Step(at, e, reply)
	if after := c.machine.State(); after != before {
		c.log.Debug("lease state", "state", after.String(), "was", before.String())
	}
	d.carry(at, c, actions)
}

// carry carries out the machine's actions, with its sockets open.
func (d *daemon) carry(at time.Duration, c *dhcp, actions []lease.Action) {
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

func (d *daemon) act(at time.Duration, c *dhcp, a lease.Action) {
	switch a.Verb {
	case lease.Broadcast, lease.Unicast:
		c.send(at, a)
	case lease.Use:
		d.configure(at, c.claim)
		d.save(c, a.Lease)
		d.writeResolv()
		c.log.Info("lease bound", "address", a.Lease.Address, "server", a.Lease.Server, "length", a.Lease.Length)
		d.announcer.tell(a.Lease)
	case lease.Drop:
		c.log.Warn("lease dropped", "address", a.Lease.Address, "reason", a.Reason)
		d.configure(at, c.claim)
		d.writeResolv()
	case lease.Probe, lease.Announce:
		c.question(at, a.Verb)
	case lease.Ignore:
		c.log.Debug("message ignored", "reason", a.Reason)
	case lease.Note:
		c.note(at, a.Reason)
	}
}

func (d *daemon) save(c *dhcp, l lease.Lease) {
	text, err := l.MarshalJSON()
	if err == nil {
		err = atomicfile.Write(lease.Path(d.cfg.LeaseDir, l.Link), append(text, '\n'), 0o644)
	}
	if err != nil {
		c.log.Warn("lease not saved", "error", err)
	}
}

func (d *daemon) forget(c *dhcp) {
	if err := os.Remove(lease.Path(d.cfg.LeaseDir, c.link.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("old lease not removed", "error", err)
	}
}
