package netd

import (
	"cmp"
	"context"
	"math"
	"net/netip"
	"os"
	"strings"
	"time"

	"resinos/net/reach"
	"resinos/net/resolv"
	"resinos/services/config"
	"resinos/services/settings"
)

// keys are the keys of config.json that netd follows.
var keys = []string{config.DNSServers, config.Hostname, config.ReachURL, config.ReachResponse, config.ReachInterval,
	config.APIEndpoint, config.Country, config.RandomScan}

// wish is what the owner's settings ask of netd.
type wish struct {
	servers  []netip.Addr
	fallback bool   // the servers are asked only if no lease names one
	hostname string // empty: the kernel's
	target   reach.Target
	fault    error  // why the target is not what the owner asks for
	country  string // two letters, whose rules the radios follow; empty: those that hold everywhere
	openScan bool   // radios look around under their own address
}

// wishOf reads settings. Values that are not addresses are skipped: whoever published them has reported them to the
// owner.
func wishOf(s settings.Settings) wish {
	w := wish{fallback: s.Values[config.DNSServers].From == settings.Default, hostname: s.Text(config.Hostname),
		country: strings.ToUpper(s.Text(config.Country)), openScan: s.Text(config.RandomScan) == "false"}
	for _, text := range s.List(config.DNSServers) {
		if a, err := netip.ParseAddr(text); err == nil {
			w.servers = append(w.servers, a)
		}
	}
	w.target, w.fault = reach.ParseTarget(s.Text(config.ReachURL), s.Text(config.APIEndpoint),
		s.Text(config.ReachResponse), s.Number(config.ReachInterval))
	return w
}

// sources adds the owner's servers to those of the leases: before them, or as the default if there are none.
func (w wish) sources(leased []resolv.Source) []resolv.Source {
	return append(leased, resolv.Source{Link: "config.json", Metric: math.MinInt, Servers: w.servers,
		Fallback: w.fallback, Owner: true})
}

// follow passes changes of the settings to the daemon until ctx ends.
func (d *daemon) follow(ctx context.Context) {
	err := settings.Follow(ctx, settings.Follower{Path: d.cfg.Settings, Daemon: "netd", Keys: keys, Log: d.cfg.Log,
		Apply: func(s settings.Settings) error {
			w := wishOf(s)
			err := d.within(ctx, func(at time.Duration) { d.take(at, w) })
			return cmp.Or(err, w.fault)
		}})
	if ctx.Err() == nil {
		d.cfg.Log.Warn("settings not followed", "error", err)
	}
}

// take applies the owner's settings. DHCP servers get a new host name at once.
func (d *daemon) take(at time.Duration, w wish) {
	before := d.hostname()
	d.wish = w
	if d.reach.Retarget(at, w.target) {
		d.reprioritise(at)
	}
	d.driveRadios()
	d.writeResolv()
	if d.hostname() == before {
		return
	}
	d.cfg.Renamed(d.hostname())
	for _, c := range d.claims {
		for _, one := range c.sources {
			one.Renamed(at)
		}
	}
}

// hostname is the name that DHCP servers get; empty if there is none.
func (d *daemon) hostname() string {
	if d.wish.hostname != "" {
		return d.wish.hostname
	}
	name, _ := os.Hostname() // without a name we send none
	return name
}
