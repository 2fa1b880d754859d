// Package sharing owns what a link with method=shared does for others: it gives out addresses (addresspool decides),
// answers their name questions, and has the kernel forward their packets with the device's own address as source.
//
// It never configures the link: the address is that of the profile. What it has done stays when the process ends, so
// that clients keep their way out while netd is started again.
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
	"resinos/net/ruleset"
	"resinos/services/sysctl"
)

// Link is one shared link. Its value identifies its server: if one field changes, the server begins anew.
type Link struct {
	Name     string
	Index    int
	Hardware string
	Own      netip.Prefix // the device's address, with the network that is shared
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
	slices.SortFunc(links, func(a, b Link) int { return a.Index - b.Index })
	r.mu.Lock()
	same := r.known && slices.Equal(r.wanted, links)
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
	return Plan(r.wanted).Steps()
}

// again is the pause after which what has failed is tried again.
const again = 10 * time.Second

// Run serves until ctx ends. Tables and forwarding stay then.
func (r *Router) Run(ctx context.Context) {
	servers := map[Link]func(){}
	defer func() {
		for _, end := range servers {
			end()
		}
	}()
	var applied string
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
		for l, end := range servers {
			if !slices.Contains(links, l) {
				end()
				delete(servers, l)
				r.cfg.Log.Info("link not shared any more", "link", l.Name)
			}
		}
		err := r.route(links, &applied, first)
		first = false
		for _, l := range links {
			if _, runs := servers[l]; runs {
				continue
			}
			end, fault := r.serve(ctx, l)
			if fault != nil {
				err = errors.Join(err, fault)
				continue
			}
			servers[l] = end
			r.cfg.Log.Info("link shared", "link", l.Name, "address", l.Own)
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

// route makes the kernel forward the packets of these links, and of no others. applied is the table in force.
func (r *Router) route(links []Link, applied *string, first bool) error {
	table := Plan(links)
	text := table.String()
	if len(links) == 0 {
		if *applied == "" && !(first && ruleset.There(table)) {
			return nil
		}
		if err := ruleset.Apply(nil, table); err != nil {
			return err
		}
		*applied = ""
		return r.unforward()
	}
	if *applied != text || !ruleset.There(table) {
		if err := ruleset.Apply([]ruleset.Table{table}); err != nil {
			return err
		}
		*applied = text
		for _, step := range table.Steps() {
			r.cfg.Log.Debug("link step", "step", step)
		}
	}
	return r.forward() // after the table: nothing is forwarded that it does not allow
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

// serve starts the servers of one link; end ends them.
func (r *Router) serve(ctx context.Context, l Link) (end func(), err error) {
	pool, ok := addresspool.New(addresspool.Config{Own: l.Own})
	if !ok {
		r.cfg.Log.Warn("no addresses given out", "link", l.Name, "address", l.Own,
			"reason", "the network is too small; use a prefix from /8 to /30")
	}
	ctx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	end = func() { stop(); all.Wait() }
	if ok {
		s := &server{link: l, pool: pool, file: r.file(l), log: r.cfg.Log.With("link", l.Name)}
		if err := s.open(); err != nil {
			stop()
			return nil, err
		}
		all.Go(func() { s.run(ctx) })
	}
	if r.cfg.Names != nil {
		packets, streams, err := listenNames(ctx, l)
		if err != nil {
			end()
			return nil, err
		}
		all.Go(func() {
			if err := r.cfg.Names(ctx, packets, streams); err != nil {
				r.cfg.Log.Warn("names not served", "link", l.Name, "error", err)
			}
		})
	}
	return end, nil
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
