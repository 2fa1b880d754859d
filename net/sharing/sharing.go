// Package sharing serves the guests of a link with method=shared: it gives out addresses (addresspool decides), answers
// the guests' name questions, and has the kernel forward their packets with the device's own address as source.
//
// It never configures the link: the address is that of the profile. Its settings in the kernel stay when the process
// ends, so that guests keep their way out while netd restarts.
//
// Read first: Router, then plan.
package sharing

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"resinos/net/addresspool"
	"resinos/net/advert"
	"resinos/net/netstate"
	"resinos/net/ruleset"
	"resinos/services/sysctl"
)

// Link is one shared link. If its name, index, hardware address or one of its own networks changes, its servers begin
// again.
type Link struct {
	Name      string
	Index     int
	Hardware  string
	Own       netip.Prefix       // the device's address of IPv4, with the network that is shared; the zero value: none
	Six       netip.Prefix       // the same of IPv6
	Delegated []netstate.Network // further networks of IPv6, which the world knows the way to
}

// identity is what the servers of a link depend on.
type identity struct {
	name     string
	index    int
	hardware string
	own, six netip.Prefix
}

func (l Link) identity() identity { return identity{l.Name, l.Index, l.Hardware, l.Own, l.Six} }

// equal reports whether nothing of two links differs.
func (l Link) equal(o Link) bool {
	return l.identity() == o.identity() && slices.Equal(l.Delegated, o.Delegated)
}

// served is what runs for one link.
type served struct {
	end  func()
	tell func(Link) // says what its guests are told from now on; nil: nothing of IPv6
}

// Config is what a Router needs. All of it may be left out.
type Config struct {
	Dir string // in /run, for one file with the leases of each link; empty: they are not kept
	// Names answers name questions on these sockets, which it owns, until ctx ends; nil: they are not answered.
	Names func(ctx context.Context, packets net.PacketConn, streams net.Listener) error
	Log   *slog.Logger
}

// Router serves the shared links. New creates one, Run serves, Set says which links there are.
type Router struct {
	cfg     Config
	changed chan struct{}
	turned  bool // Run has turned forwarding on

	mu     sync.Mutex // guards what follows
	wanted []Link
	known  bool   // Set was called
	fault  string // why sharing does not work; empty: it does
}

// New returns a router without links.
func New(cfg Config) *Router {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Router{cfg: cfg, changed: make(chan struct{}, 1)}
}

// Set replaces the shared links. It does not block.
func (r *Router) Set(links []Link) {
	links = slices.Clone(links)
	slices.SortStableFunc(links, func(a, b Link) int { return a.Index - b.Index })
	r.mu.Lock()
	same := r.known && slices.EqualFunc(r.wanted, links, Link.equal)
	r.wanted, r.known = links, true
	r.mu.Unlock()
	if !same {
		r.Check()
	}
}

// Check has the router look whether its table is there. It does not block.
func (r *Router) Check() {
	select {
	case r.changed <- struct{}{}:
	default: // it has not looked since the last time
	}
}

// Fault says why sharing does not work; empty: it does.
func (r *Router) Fault() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fault
}

// Steps returns the rules as they are to be; none while no link is shared.
func (r *Router) Steps() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wanted) == 0 {
		return nil
	}
	var out []string
	for _, table := range Plan(r.wanted) {
		if len(table.Chains) > 0 {
			out = append(out, table.Steps()...)
		}
	}
	return out
}

// again is the pause after which what has failed is tried again.
const again = 10 * time.Second

// Run serves until ctx ends. Tables and forwarding stay then.
func (r *Router) Run(ctx context.Context) {
	servers := map[identity]served{}
	defer func() {
		for _, s := range servers {
			s.end()
		}
	}()
	var applied [2]string
	first := true
	retry := time.NewTimer(again)
	retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
		case <-retry.C:
		}
		r.mu.Lock()
		links, known := r.wanted, r.known
		r.mu.Unlock()
		if !known {
			continue
		}
		for id, s := range servers {
			if !slices.ContainsFunc(links, func(l Link) bool { return l.identity() == id }) {
				s.end()
				delete(servers, id)
				r.cfg.Log.Info("link not shared any more", "link", id.name)
				if id.six.IsValid() {
					_ = advert.Host(id.name) // the link may be gone
				}
			}
		}
		err := r.route(links, &applied, first)
		first = false
		for _, l := range links {
			s, runs := servers[l.identity()]
			if runs && s.tell != nil {
				s.tell(l)
			}
			if runs {
				continue
			}
			s, fault := r.serve(ctx, l)
			if fault != nil {
				err = errors.Join(err, fault)
				continue
			}
			servers[l.identity()] = s
			r.cfg.Log.Info("link shared", "link", l.Name, "address", own(l))
		}
		r.note(err)
		if err != nil {
			retry.Reset(again)
		}
	}
}

func (r *Router) note(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	r.mu.Lock()
	was := r.fault
	r.fault = text
	r.mu.Unlock()
	if text != "" && text != was {
		r.cfg.Log.Warn("link not shared", "error", err)
	}
}

// route makes the kernel forward the packets of these links, and of no others. applied are the tables in force.
func (r *Router) route(links []Link, applied *[2]string, first bool) error {
	var fault error
	for i, table := range Plan(links) {
		fault = errors.Join(fault, r.apply(table, &applied[i], first))
	}
	if fault != nil {
		return fault
	}
	four := slices.ContainsFunc(links, func(l Link) bool { return l.Own.IsValid() })
	if !four {
		fault = r.unforward()
	} else { // after the table: nothing is forwarded that it does not allow
		fault = r.forward()
	}
	for _, l := range links {
		if l.Six.IsValid() {
			fault = errors.Join(fault, advert.Forward(l.Name))
		}
	}
	return fault
}

// apply brings a table into force, or removes it if it has no chains.
func (r *Router) apply(table ruleset.Table, applied *string, first bool) error {
	if len(table.Chains) == 0 {
		if *applied == "" && !(first && ruleset.There(table)) {
			return nil
		}
		err := ruleset.Apply(nil, table)
		if err == nil {
			*applied = ""
		}
		return err
	}
	text := table.String()
	if *applied == text && ruleset.There(table) {
		return nil
	}
	if err := ruleset.Apply([]ruleset.Table{table}); err != nil {
		return err
	}
	*applied = text
	for _, step := range table.Steps() {
		r.cfg.Log.Debug("link step", "step", step)
	}
	return nil
}

// forwarding is the setting that makes the kernel a router.
const forwarding = "net/ipv4/ip_forward"

// forward makes the kernel a router, and notes whether it was none.
func (r *Router) forward() error {
	on, err := os.ReadFile(filepath.Join(sysctl.Root, forwarding))
	if err == nil && strings.TrimSpace(string(on)) == "0" {
		r.turned = true
	}
	return sysctl.Set(forwarding, "1")
}

// unforward makes the kernel a host again if this router made it a router, unless containers have networks: who manages
// them turns forwarding on after a bridge is there.
func (r *Router) unforward() error {
	if !r.turned || bridged() {
		return nil
	}
	r.turned = false
	err := sysctl.Set(forwarding, "0")
	if bridged() { // one has come meanwhile
		err = errors.Join(err, sysctl.Set(forwarding, "1"))
	}
	return err
}

// bridged reports whether there is a network of containers, ours or Docker's.
func bridged() bool {
	list, err := net.Interfaces()
	return err != nil || slices.ContainsFunc(list, func(l net.Interface) bool {
		return slices.ContainsFunc([]string{strings.TrimSuffix(containers, "*"), "docker", "br-"}, func(p string) bool {
			return strings.HasPrefix(l.Name, p)
		})
	})
}

// serve starts the servers of one link.
func (r *Router) serve(ctx context.Context, l Link) (s served, err error) {
	ctx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	s.end = func() { stop(); all.Wait() }
	defer func() {
		if err != nil {
			s.end()
		}
	}()
	if l.Own.IsValid() {
		if err := r.giveAddresses(ctx, l, &all); err != nil {
			return s, err
		}
	}
	if l.Six.IsValid() {
		if s.tell, err = r.advertise(ctx, l, &all); err != nil {
			return s, err
		}
	}
	for _, own := range []netip.Prefix{l.Own, l.Six} {
		if r.cfg.Names == nil || !own.IsValid() {
			continue
		}
		packets, streams, err := listenNames(ctx, l, own.Addr())
		if err != nil {
			return s, err
		}
		all.Go(func() {
			if err := r.cfg.Names(ctx, packets, streams); err != nil {
				r.cfg.Log.Warn("names not served", "link", l.Name, "error", err)
			}
		})
	}
	return s, nil
}

// giveAddresses starts the DHCP server of a link.
func (r *Router) giveAddresses(ctx context.Context, l Link, all *sync.WaitGroup) error {
	pool, ok := addresspool.New(addresspool.Config{Own: l.Own})
	if !ok {
		r.cfg.Log.Warn("no addresses given out", "link", l.Name, "address", l.Own,
			"reason", "the network is too small; use a prefix from /8 to /30")
		return nil
	}
	s := &server{link: l, pool: pool, file: r.file(l), log: r.cfg.Log.With("link", l.Name)}
	if err := s.open(); err != nil {
		return err
	}
	all.Go(func() { s.run(ctx) })
	return nil
}

// advertise starts the IPv6 router of a link; tell says what its guests are told from now on.
func (r *Router) advertise(ctx context.Context, l Link, all *sync.WaitGroup) (tell func(Link), err error) {
	if l.Six.Bits() != 64 {
		r.cfg.Log.Warn("no addresses given out", "link", l.Name, "address", l.Six,
			"reason", "guests make addresses in networks of 64 bits only; use a prefix of /64")
		return nil, nil
	}
	s, err := advert.Open(l.Name, l.Index, r.cfg.Log)
	if err != nil {
		return nil, err
	}
	s.Set(r.told(l))
	told := l
	tell = func(l Link) {
		if !told.equal(l) {
			told = l
			s.Set(r.told(l))
		}
	}
	all.Go(func() { s.Run(ctx) })
	return tell, nil
}

// told returns what the guests of a link are told.
func (r *Router) told(l Link) advert.Router {
	hardware, _ := net.ParseMAC(l.Hardware) // the kernel wrote it
	out := advert.Router{Hardware: hardware, Default: true,
		Prefixes: []advert.Prefix{{Prefix: l.Six.Masked(), Preferred: advert.Forever, Valid: advert.Forever}}}
	for _, n := range l.Delegated {
		out.Prefixes = append(out.Prefixes, advert.Prefix(n))
	}
	if r.cfg.Names != nil {
		out.Servers = []netip.Addr{l.Six.Addr()}
	}
	return out
}

// file is where the leases of a link are kept: by its hardware address too, which names no path.
func (r *Router) file(l Link) string {
	if r.cfg.Dir == "" {
		return ""
	}
	return filepath.Join(r.cfg.Dir, l.Name)
}

// Leases returns the leases of a link that are kept below dir. A file that cannot be read has none.
func Leases(dir, link string) (leases []addresspool.Lease) {
	if text, err := os.ReadFile(filepath.Join(dir, link)); err == nil {
		_ = json.Unmarshal(text, &leases) // the same
	}
	return leases
}

// own returns the addresses of the device on a shared link as text.
func own(l Link) string {
	var out []string
	for _, p := range []netip.Prefix{l.Own, l.Six} {
		if p.IsValid() {
			out = append(out, p.String())
		}
	}
	return strings.Join(out, " ")
}
