package netd

import (
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"github.com/vishvananda/netlink"

	"resinos/net/link"
	"resinos/net/resolv"
)

// claim is one link that a profile gave us. What it gets comes from its sources.
type claim struct {
	link    link.Link
	metric  int
	mtu     int // of the link when it was found, to go back to
	sources []source
	retry   time.Duration // when to look at the link again although nothing was heard; 0: never
	planned time.Duration // when steps were last applied
	log     *slog.Logger
}

// source gives a link addresses, routes and name servers: a DHCP server does. It belongs to one claim, and to the daemon's goroutine.
type source interface {
	want(at time.Duration, w *link.Wanted) // adds what the link is to have of it now
	names() (resolv.Source, bool)          // name servers and domains; false: none now
	carrier(at time.Duration, there bool)  // the other end has come or gone
	renamed(at time.Duration)              // the device has another host name
	deadline() time.Duration               // when it wants a tick; 0: never
	tick(at time.Duration)
	close() // ends what it has running; the link stays as it is
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
	c := &claim{link: l, metric: p.MetricFor(l), mtu: l.MTU, log: d.cfg.Log.With("link", l.Name)}
	c.link.Carrier = false // so that settle tells the sources
	d.claims[l.Index] = c
	c.log.Info("link claimed", "kind", l.Kind, "hardware", l.Hardware, "metric", c.metric)
	client := d.newDHCP(c)
	c.sources = []source{client}
	client.adopt(at, actual)
	return c
}

// settle applies what the link lacks and tells the sources about the carrier.
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
	if c.link.Carrier == had {
		return
	}
	if had {
		c.log.Info("carrier lost")
	}
	for _, s := range c.sources {
		s.carrier(at, c.link.Carrier)
	}
}

// release gives a link back. Its lease file stays for when it comes again.
func (d *daemon) release(c *claim, why string) {
	c.log.Info("link released", "reason", why)
	c.close()
	delete(d.claims, c.link.Index)
	d.writeResolv()
}

func (c *claim) wanted(at time.Duration) link.Wanted {
	w := link.Wanted{Up: true, SkipsDown: true, MTU: c.mtu}
	for _, s := range c.sources {
		s.want(at, &w)
	}
	return w
}

func (c *claim) close() {
	for _, s := range c.sources {
		s.close()
	}
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

// configure brings the link into line with its sources at once.
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

func (d *daemon) writeResolv() {
	var sources []resolv.Source
	for _, c := range d.claims {
		for _, s := range c.sources {
			if one, any := s.names(); any {
				sources = append(sources, one)
			}
		}
	}
	if err := resolv.Write(d.cfg.ResolvPath, resolv.Render(d.wish.sources(sources))); err != nil {
		d.cfg.Log.Warn("resolv.conf not written", "error", err)
	}
}
