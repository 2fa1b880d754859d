// Package dhcpclient owns the DHCP client of one link: a source that runs the sockets of a lease.Machine, and keeps the
// lease in a file. It parses no packet; lease does.
//
// Read first: Config, then Client.step.
package dhcpclient

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"resinos/mounts/atomicfile"
	"resinos/net/assignment"
	"resinos/net/inforce"
	"resinos/net/lease"
	"resinos/net/link"
	"resinos/net/linksource"
	"resinos/net/netstate"
	"resinos/net/profile"
	"resinos/net/resolv"
)

// Config holds what one client works with. Only Profile may be nil.
type Config struct {
	Link     link.Link
	Metric   int               // of the routes
	Profile  *profile.Profile  // the key file of the link; nil: there is none
	OwnMTU   bool              // the key file sets an MTU, and that of the server does not count
	LeaseDir string            // directory in /run with one file for each link, its last lease
	Memory   string            // directory in resin-state with the last lease of each link; empty: none is kept
	Hold     time.Duration     // how long a lease outlives its carrier
	Hostname func() string     // the host name of the device; empty: it has none
	Leased   func(lease.Lease) // called with each lease that is in use; must not block
	Owner    linksource.Owner
	Log      *slog.Logger
}

// Client is a linksource.Source: the DHCP client of one link, with its sockets.
type Client struct {
	cfg        Config
	machine    *lease.Machine
	there      bool            // the link has a carrier
	receiver   *receiver       // open while the machine listens
	neighbours *neighbours     // open while the machine checks an address
	noted      map[string]bool // notes that were logged since noting
	noting     time.Duration
	memory     memory
	tasks      sync.WaitGroup // writes of the memory, and receivers that are being closed
}

// New returns the client of a link without a carrier. It asks for nothing before the carrier comes.
func New(cfg Config) *Client {
	c := &Client{cfg: cfg}
	c.machine = lease.New(lease.Config{
		Link: cfg.Link.Name, Hardware: c.hardware(), Hostname: c.hostname(), Hold: cfg.Hold, Random: random,
		Identity: assignment.Identity(cfg.Profile, cfg.Link),
	})
	return c
}

func (c *Client) hardware() net.HardwareAddr {
	hardware, _ := net.ParseMAC(c.cfg.Link.Hardware) // the kernel wrote it
	return hardware
}

// hostname is the name that the server gets: that of the key file, the device's, or none.
func (c *Client) hostname() string {
	p := c.cfg.Profile
	if p != nil && !p.IPv4.SendHostname {
		return ""
	}
	if p != nil && p.IPv4.DHCPHostname != "" {
		return p.IPv4.DHCPHostname
	}
	return c.cfg.Hostname()
}

// Adopt adopts the lease of an earlier netd. It reports whether the link's MTU is from that lease.
func (c *Client) Adopt(at time.Duration, actual link.Actual) (mtu bool) {
	old, err := lease.Load(c.cfg.LeaseDir, c.cfg.Link.Name)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.cfg.Log.Warn("old lease not usable", "error", err)
		}
		c.remember(at)
		return false
	}
	if c.machine.Adopt(at, old, configured(actual, old)) {
		c.cfg.Log.Info("old lease found", "address", old.Address, "in_use", configured(actual, old))
	}
	held, inUse := c.machine.Lease()
	if !inUse {
		return false
	}
	c.cfg.Owner.NamesChanged()
	c.cfg.Leased(held)
	return held.MTU != 0
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

// Want adds the lease.
func (c *Client) Want(at time.Duration, w *link.Wanted) {
	if held, inUse := c.machine.Lease(); inUse {
		var leased link.Wanted
		assignment.AddLease(&leased, held, c.cfg.Metric, at)
		if c.cfg.Profile != nil {
			inforce.Filter(&leased, c.cfg.Profile.IPv4)
		}
		if leased.MTU != 0 && !c.cfg.OwnMTU {
			w.MTU = leased.MTU
		}
		w.Addresses = append(w.Addresses, leased.Addresses...)
		w.Routes = append(w.Routes, leased.Routes...)
	}
}

// Lease returns the lease that is in use; false: none is.
func (c *Client) Lease() (lease.Lease, bool) { return c.machine.Lease() }

// Report adds the lease that is in use.
func (c *Client) Report(l *netstate.Link) {
	if held, inUse := c.Lease(); inUse {
		l.Lease = &held
	}
}

// Names returns what the lease names.
func (c *Client) Names() (resolv.Source, bool) {
	l, inUse := c.machine.Lease()
	if c.cfg.Profile != nil && c.cfg.Profile.IPv4.IgnoreDNS {
		return resolv.Source{}, false
	}
	return resolv.Source{Link: l.Link, Metric: c.cfg.Metric, Servers: l.DNS, Search: l.SearchDomains()}, inUse
}

// Carrier tells the machine whether the link has a carrier.
func (c *Client) Carrier(at time.Duration, there bool) {
	c.there = there
	event := lease.NoCarrier
	if there {
		c.machine.SetHostname(c.hostname())
		event = lease.Carrier
	}
	c.step(at, event, nil)
	if there {
		c.recognise(at)
	} else {
		c.lose()
	}
}

// Renamed requests the same lease again, so that the server learns the new name at once. The link does not change.
func (c *Client) Renamed(at time.Duration) {
	c.machine.SetHostname(c.hostname())
	if c.there {
		c.Carrier(at, false)
		c.Carrier(at, true)
	}
}

// Deadline returns when the machine needs a Tick.
func (c *Client) Deadline() time.Duration { return c.machine.Deadline() }

// Tick tells the machine that its time has come.
func (c *Client) Tick(at time.Duration) { c.step(at, lease.Timer, nil) }

// Close closes the sockets. The lease file stays.
func (c *Client) Close() {
	c.hush()
	c.unwatch()
	c.lose()
	c.tasks.Wait()
}

// receive processes a message from a receiver, unless that receiver has been closed meanwhile.
func (c *Client) receive(at time.Duration, from *receiver, message []byte) {
	if c.receiver != from {
		return
	}
	reply, err := lease.Parse(message)
	if err != nil {
		c.note(at, err.Error())
		return
	}
	c.step(at, lease.Reply, reply)
}

// step passes one event to the machine and carries out its actions.
func (c *Client) step(at time.Duration, e lease.Event, reply *dhcpv4.DHCPv4) {
	before := c.machine.State()
	actions := c.machine.Step(at, e, reply)
	if after := c.machine.State(); after != before {
		c.cfg.Log.Debug("lease state", "state", after.String(), "was", before.String())
	}
	c.carry(at, actions)
}

// carry carries out the machine's actions, with its sockets open.
func (c *Client) carry(at time.Duration, actions []lease.Action) {
	c.listen(at)
	if _, on := c.machine.Checking(); on {
		c.watchAddress(at) // before the first question
	}
	for _, a := range actions {
		c.act(at, a)
	}
	c.watchAddress(at) // after the last one
	if !c.machine.Remembers() {
		c.forget()
	}
}

func (c *Client) act(at time.Duration, a lease.Action) {
	switch a.Verb {
	case lease.Broadcast, lease.Unicast:
		c.send(at, a)
	case lease.Use:
		c.cfg.Owner.Configure(at)
		c.save(a.Lease)
		c.cfg.Owner.NamesChanged()
		c.cfg.Log.Info("lease bound", "address", a.Lease.Address, "server", a.Lease.Server, "length", a.Lease.Length)
		c.cfg.Leased(a.Lease)
		c.keep(at, a.Lease)
	case lease.Drop:
		c.cfg.Log.Warn("lease dropped", "address", a.Lease.Address, "reason", a.Reason)
		c.cfg.Owner.Configure(at)
		c.cfg.Owner.NamesChanged()
	case lease.Probe, lease.Announce:
		c.question(at, a.Verb)
	case lease.Ignore:
		c.cfg.Log.Debug("message ignored", "reason", a.Reason)
	case lease.Note:
		c.note(at, a.Reason)
	}
}

func (c *Client) save(l lease.Lease) {
	text, err := l.MarshalJSON()
	if err == nil {
		err = atomicfile.Write(lease.Path(c.cfg.LeaseDir, l.Link), append(text, '\n'), 0o644)
	}
	if err != nil {
		c.cfg.Log.Warn("lease not saved", "error", err)
	}
}

func (c *Client) forget() {
	if err := os.Remove(lease.Path(c.cfg.LeaseDir, c.cfg.Link.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.cfg.Log.Warn("old lease not removed", "error", err)
	}
}
