package wireguard

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Keeper makes wireguard links what profiles ask for, and looks the names of peers up: until there is an answer, and
// again while a peer is silent, because it may have got another address.
type Keeper struct {
	Log    *slog.Logger
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error) // nil: the resolver of the device

	mu      sync.Mutex // guards wanted
	wanted  []Config
	changed chan struct{}
}

// NewKeeper returns a keeper that has nothing to do.
func NewKeeper(log *slog.Logger) *Keeper {
	return &Keeper{Log: log, changed: make(chan struct{}, 1)}
}

// The times of looking names up.
const (
	lookupTimeout = 10 * time.Second
	firstPause    = 2 * time.Second // after a lookup that failed; doubles up to lastPause
	lastPause     = 2 * time.Minute
	checkEvery    = 2 * time.Minute   // how often a peer that is given by name is asked whether it answers
	silentAfter   = 150 * time.Second // a peer that is there makes a handshake every two minutes
)

// Want replaces what the links should be. It does not block, and may be called again with the same.
func (k *Keeper) Want(list []Config) {
	k.mu.Lock()
	idle := len(list)+len(k.wanted) == 0
	k.wanted = list
	k.mu.Unlock()
	if idle {
		return
	}
	select {
	case k.changed <- struct{}{}:
	default: // Run has not seen the last change yet
	}
}

// target is what Run knows of a peer that has an endpoint.
type target struct {
	endpoint string
	address  netip.AddrPort // where the peer is sent to; not valid: not known yet
	due      time.Time      // of the next lookup
	pause    time.Duration
	asking   bool // a lookup is under way
	set      bool // the kernel has had address
	another  bool // the profile named another endpoint before
}

type targetKey struct {
	link string
	peer Key
}

// answer is the end of a lookup.
type answer struct {
	of      targetKey
	name    string
	address netip.AddrPort
	err     error
}

// Run works until ctx ends. A link that is not there is left out until Want is called again.
func (k *Keeper) Run(ctx context.Context) {
	targets := map[targetKey]*target{}
	answers := make(chan answer)
	var lookups sync.WaitGroup
	defer lookups.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.changed:
		case <-timer.C:
		case a := <-answers:
			k.learn(a, targets[a.of])
		}
		k.mu.Lock()
		wanted := k.wanted
		k.mu.Unlock()
		targets = renew(targets, wanted)
		for _, c := range wanted {
			k.settle(c, targets)
		}
		for key, t := range targets {
			if named(t.endpoint) && !t.asking && time.Until(t.due) <= 0 {
				t.asking = true
				lookups.Go(func() {
					a := answer{of: key, name: t.endpoint}
					a.address, a.err = k.resolve(ctx, a.name)
					select {
					case answers <- a:
					case <-ctx.Done():
					}
				})
			}
		}
		timer.Stop()
		if next, any := first(targets); any {
			timer.Reset(time.Until(next))
		}
	}
}

// learn takes an answer over. An address that was set already is set again: the peer is silent, and may have been
// elsewhere for a while.
func (k *Keeper) learn(a answer, t *target) {
	if t == nil || t.endpoint != a.name {
		return // nobody asks any more
	}
	t.asking = false
	if a.err != nil {
		k.Log.Warn("peer not looked up", "link", a.of.link, "peer", a.of.peer.Short(), "pause", t.pause, "error", a.err)
		t.due = time.Now().Add(t.pause)
		t.pause = min(2*t.pause, lastPause)
		return
	}
	t.pause, t.due = firstPause, time.Now().Add(checkEvery)
	t.address, t.set = a.address, false
}

// renew returns the targets of the wanted peers. What is known of one stays while its endpoint is the same.
func renew(old map[targetKey]*target, wanted []Config) map[targetKey]*target {
	out := map[targetKey]*target{}
	for _, c := range wanted {
		for _, p := range c.Peers {
			key := targetKey{c.Link, p.Public}
			switch known := old[key]; {
			case p.Endpoint == "":
			case known != nil && known.endpoint == p.Endpoint:
				out[key] = known
			default:
				t := &target{endpoint: p.Endpoint, pause: firstPause, another: known != nil}
				t.address, _ = netip.ParseAddrPort(p.Endpoint)
				out[key] = t
			}
		}
	}
	return out
}

// first returns when the next lookup is due.
func first(targets map[targetKey]*target) (next time.Time, any bool) {
	for _, t := range targets {
		if named(t.endpoint) && !t.asking && (!any || t.due.Before(next)) {
			next, any = t.due, true
		}
	}
	return next, any
}

func named(endpoint string) bool {
	_, err := netip.ParseAddrPort(endpoint)
	return err != nil
}

// settle gives the kernel what it lacks.
func (k *Keeper) settle(c Config, targets map[targetKey]*target) {
	now, err := Observe(c.Link)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			k.Log.Warn("wireguard link not read", "link", c.Link, "error", err)
		}
		return
	}
	endpoints := map[Key]netip.AddrPort{}
	for _, p := range c.Peers {
		t := targets[targetKey{c.Link, p.Public}]
		if t == nil {
			continue
		}
		i := slices.IndexFunc(now.Peers, func(have PeerState) bool { return have.Public == p.Public })
		known := i >= 0 && now.Peers[i].Endpoint.IsValid()
		answers := known && time.Since(now.Peers[i].Handshake) < silentAfter
		if answers && time.Until(t.due) <= 0 {
			t.due = time.Now().Add(checkEvery) // wherever the peer is: no lookup is needed
		}
		// A peer keeps the endpoint that the kernel has if that had ours, because the peer may have moved since, and if
		// the peer answers there, which an earlier netd has arranged.
		if t.address.IsValid() && !(known && (t.set || answers && !t.another)) {
			endpoints[p.Public], t.set = t.address, true
		}
	}
	for _, s := range Plan(c, now, endpoints) {
		if err := Apply(s); err != nil {
			k.Log.Warn("wireguard link not as wanted", "link", c.Link, "error", err)
			continue
		}
		k.Log.Info("link step", "step", s.String())
	}
}

// resolve returns the address that a name has now, IPv4 first: fewer networks lack it.
func (k *Keeper) resolve(ctx context.Context, endpoint string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil {
		return netip.AddrPort{}, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ctx, stop := context.WithTimeout(ctx, lookupTimeout)
	defer stop()
	lookup := k.Lookup
	if lookup == nil {
		lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	list, err := lookup(ctx, host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	best := netip.Addr{}
	for _, a := range list {
		if a = a.Unmap(); !best.IsValid() || best.Is6() && a.Is4() {
			best = a
		}
	}
	if !best.IsValid() {
		return netip.AddrPort{}, errors.New("the name has no address")
	}
	return netip.AddrPortFrom(best, uint16(number)), nil
}
