// Package netd owns the daemon that makes a device reachable: it claims links by profile, runs the sources of each
// claimed link (a DHCP client, a key file), configures the link as they want it, and writes resolv.conf.
//
// It never parses a packet (lease does), writes to flash only what a lease memory has to keep, and never takes a link
// down: when it ends, for whatever reason, every address stays until its lease ends.
//
// Read first: Config, then claim.
package netd

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"resinos/net/delegation"
	"resinos/net/dhcpclient"
	"resinos/net/inforce"
	"resinos/net/lease"
	"resinos/net/link"
	"resinos/net/linkwatch"
	"resinos/net/modems"
	"resinos/net/netcontrol"
	"resinos/net/netstate"
	"resinos/net/ownlink"
	"resinos/net/radios"
	"resinos/net/reach"
	"resinos/net/resolv"
	"resinos/net/vpn"
	"resinos/net/wireguard"
	"resinos/services/boottime"
	"resinos/services/notify"
)

// Config holds the paths and hooks of netd. Only ResolvPath and LeaseDir are required.
type Config struct {
	ResolvPath  string // resolv.conf
	LeaseDir    string // directory in /run with one file for each link, its last lease
	SharedDir   string // directory in /run with one file for each shared link, its guests; empty: none is kept
	Identity    string // a text that is the device's own and stays, as its machine id; empty: it has none
	LeaseMemory string // directory in resin-state that keeps the last lease of each link over a reboot; empty: none
	// ServersPath is a file like resolv.conf that names the servers of the links and of the owner; empty: none.
	ServersPath string
	Forwarder   netip.Addr               // what resolv.conf names instead of these servers; the zero value: none
	Renamed     func(hostname string)    // called with the host name at the start, and when it changes; must not block
	Names       func([]resolv.Source)    // called with the servers and domains whenever they may have changed
	Changed     func(netstate.State)     // called with what is configured, when it changes; must not block
	Silent      func(links []string)     // called with the links whose profiles want no multicast DNS; must not block
	RulesState  string                   // what became of the owner's rules, for the status; empty: there are none
	Rules       func() []string          // for the plan: those of the packet filter; nil: none
	Status      func(*netcontrol.Status) // adds what is beside the links; nil: nothing
	Settings    string                   // the file with the owner's settings; empty: there are none
	Log         *slog.Logger             // nil: nothing is logged
	OnLease     func(lease.Lease)        // called one at a time, after the link has been configured; may block
	Profiles    []link.Profile           // of links without a key file; nil: link.Defaults
	KeyFiles    string                   // directory of the key files; empty: there are none
	Control     string                   // the socket that osctl asks; empty: there is none
	WiFi        string                   // directory of the service wifi; empty: radios are left alone
	Modem       string                   // directory of the service modem; empty: modems are left alone
	VPN         string                   // directory of the tunnels of openvpn; empty: there are none
	SysRoot     string                   // empty: "/sys"
	Hold        time.Duration            // how long a configuration outlives its carrier; 0: defaultHold
}

// defaultHold bridges a switch that restarts its port, and a cable that is moved to another socket.
const defaultHold = 5 * time.Second

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Profiles == nil {
		c.Profiles = link.Defaults()
	}
	if c.Renamed == nil {
		c.Renamed = func(string) {}
	}
	if c.Names == nil {
		c.Names = func([]resolv.Source) {}
	}
	if c.Silent == nil {
		c.Silent = func([]string) {}
	}
	if c.SysRoot == "" {
		c.SysRoot = "/sys"
	}
	if c.Hold == 0 {
		c.Hold = defaultHold
	}
	return c
}

// Run runs until ctx is cancelled, then leaves every link as it is and returns nil. It fails only if it cannot begin;
// later failures are logged, and it tries again.
func Run(ctx context.Context, cfg Config) error {
	d := &daemon{
		cfg:    cfg.withDefaults(),
		claims: map[int]*claim{},
		events: make(chan func(time.Duration)),
		mtus:   map[int]int{},
		sixes:  map[int][]link.Setting{},
		ruled:  true,
	}
	d.reach = reach.NewSet(d.events, d.reprioritise, d.cfg.Log)
	d.own.Log, d.tunnels = d.cfg.Log, wireguard.NewKeeper(d.cfg.Log)
	d.files = inforce.New(d.cfg.KeyFiles, d.cfg.Profiles, d.cfg.Log)
	d.files.Identity = d.cfg.Identity
	d.delegated = delegation.New(d.cfg.LeaseDir, d.cfg.LeaseMemory, d.cfg.Log)
	d.radios = radios.New(d.cfg.WiFi, radios.Owner{Files: d.files, Events: d.events, Moved: d.moved, Log: d.cfg.Log})
	d.vpns = vpn.New(d.cfg.VPN, vpn.Owner{Files: d.files, Events: d.events, Moved: d.moved, Log: d.cfg.Log})
	d.modems = modems.New(d.cfg.Modem, d.cfg.SysRoot,
		modems.Owner{Files: d.files, Events: d.events, Moved: d.moved, Log: d.cfg.Log})
	for _, dir := range []string{d.cfg.LeaseDir, filepath.Dir(d.cfg.ResolvPath)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("create directory: %w", err)
		}
	}
	w, err := linkwatch.Watch()
	if err != nil {
		return err
	}
	defer w.Close()
	defer d.watchRouters()()
	d.announcer = dhcpclient.Announce(d.cfg.OnLease, d.cfg.Log)
	defer d.announcer.Close()
	defer d.close()
	if d.cfg.KeyFiles != "" {
		d.files.Load()
		d.ensureLinks()
	}
	d.survey(boottime.Now())
	if d.cfg.KeyFiles != "" {
		d.applyRules()
	}
	d.writeResolv()
	d.cfg.Renamed(d.hostname())
	d.delegate(boottime.Now())
	d.publish(boottime.Now())
	if err := notify.Ready(); err != nil {
		d.cfg.Log.Warn("readiness not reported", "error", err)
	}
	beside, stop := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer stop()
	if d.cfg.Settings != "" {
		tasks.Go(func() { d.follow(beside) })
	}
	if d.cfg.KeyFiles != "" {
		tasks.Go(func() { d.watchFiles(beside) })
		tasks.Go(func() { d.tunnels.Run(beside) })
	}
	if d.cfg.Control != "" {
		tasks.Go(func() { d.answer(beside) })
	}
	if d.radios != nil {
		tasks.Go(func() { d.radios.Run(beside) })
	}
	if d.vpns != nil {
		tasks.Go(func() { d.vpns.Run(beside) })
	}
	if d.modems != nil {
		tasks.Go(func() { d.modems.Run(beside) })
	}
	return d.serve(ctx, w.Changes)
}

// daemon is the state of netd. One goroutine owns it.
type daemon struct {
	cfg       Config
	claims    map[int]*claim              // by index of the link
	events    chan func(at time.Duration) // what other goroutines ask the one of the daemon to run
	announcer *dhcpclient.Announcer
	wish      wish // the owner's settings
	files     *inforce.Set
	mtus      map[int]int            // what links had before a profile changed it, by index
	sixes     map[int][]link.Setting // the same of their settings of IPv6
	ruled     bool                   // rules of ours may be there
	lastFault string                 // of the last apply; empty: it succeeded
	published *netstate.State        // what Changed was called with last; nil: nothing
	reach     *reach.Set
	delegated *delegation.Set
	stale     bool // what the set of uplinks knows may be old
	own       ownlink.Keeper
	radios    *radios.Set // nil: they are left alone
	modems    *modems.Set // the same
	tunnels   *wireguard.Keeper
	vpns      *vpn.Set // nil: there are none
}

func (d *daemon) serve(ctx context.Context, changes <-chan linkwatch.Change) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	alive := notify.Watched()
	for {
		alive.Beat()
		d.refresh(boottime.Now())
		wait := alive.Left()
		if at := d.deadline(); at != 0 {
			wait = min(wait, max(at-boottime.Now(), 0))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case c := <-changes:
			if c.All {
				d.survey(boottime.Now())
			} else {
				d.look(boottime.Now(), c.Index)
			}
		case run := <-d.events:
			run(boottime.Now())
		case <-timer.C:
			d.tick(boottime.Now())
		}
		d.delegate(boottime.Now())
		d.publish(boottime.Now())
	}
}

// deadline returns the earliest instant at which a claim has something to do; 0: never.
func (d *daemon) deadline() time.Duration {
	first := d.reach.Deadline()
	for _, c := range d.claims {
		first = earlier(first, c.retry)
		for _, s := range c.sources {
			first = earlier(first, s.Deadline())
		}
	}
	return first
}

// earlier is the first of two instants, of which 0 is never.
func earlier(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func (d *daemon) tick(at time.Duration) {
	d.reach.Tick(at)
	for index, c := range d.claims {
		if c.retry != 0 && at >= c.retry {
			c.retry = 0
			d.look(at, index)
		}
		if d.claims[index] != c {
			continue // look has released it
		}
		for _, s := range c.sources {
			if next := s.Deadline(); next != 0 && at >= next {
				s.Tick(at)
			}
		}
	}
}

// close ends the receivers. Links, addresses and lease files stay.
func (d *daemon) close() {
	d.reach.Close()
	d.delegated.Close()
	for _, c := range d.claims {
		c.close()
	}
}
