// Package autoconf owns what one link gets from IPv6 routers, except addresses and routes, which the kernel sets
// itself: name servers and search domains with their lifetimes, what a DHCPv6 server gives if the routers announce one,
// and the prefixes that such a server delegates. Such a server is asked for prefixes whatever the routers announce (RFC
// 7084, WPD-4).
//
// It reads no packet (ndwatch and dhcp6 do). Read first: Config, then Source.
package autoconf

import (
	"cmp"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"resinos/net/dhcp6"
	"resinos/net/link"
	"resinos/net/linksource"
	"resinos/net/ndwatch"
	"resinos/net/netstate"
	"resinos/net/resolv"
)

// Config holds what one source works with.
type Config struct {
	Link      link.Link
	Metric    int
	IgnoreDNS bool         // name servers of routers and of the DHCPv6 server do not count
	Always    bool         // a DHCPv6 server is asked for addresses whatever the routers say
	Hint      netip.Prefix // of a prefix that is asked for even if nobody needs one; the zero value: none
	DUID      []byte
	Hostname  func() string // what the DHCPv6 server gets; empty: nothing
	Hold      time.Duration // how long everything outlives the carrier
	Random    func() uint32
	Owner     linksource.Owner
	Log       *slog.Logger
}

// The limits on what routers give a link. RFC 8106 wants at least three servers to be stored.
const (
	maxServers = 8
	maxDomains = 8
)

// named is a name server or a domain, with the instant until which it counts.
type named struct {
	text string // the domain
	addr netip.Addr
	ends time.Duration
}

// Source is a linksource.Source.
type Source struct {
	cfg      Config
	there    bool          // the link has a carrier
	lost     time.Duration // when Hold is over; 0: it does not run
	servers  []named
	domains  []named
	flags    ndwatch.Flags // the last ones
	delegate bool          // a prefix is wanted
	machine  *dhcp6.Machine
	prefixes *dhcp6.Machine // asks for prefixes where no addresses are asked for: then machine asks for both
	receiver *receiver      // open while one of them listens
	fault    string         // the last one that was logged
}

// New returns the source of a link without a carrier.
func New(cfg Config) *Source {
	client := dhcp6.Config{DUID: cfg.DUID, IAID: dhcp6.IAID(cfg.Link.Name), Hostname: cfg.Hostname, Random: cfg.Random}
	return &Source{cfg: cfg, machine: dhcp6.New(client), prefixes: dhcp6.New(client), delegate: cfg.Hint.IsValid()}
}

// Adopt takes over what an earlier netd got from a DHCPv6 server: the addresses that the link has, and the prefixes of
// last.
func (s *Source) Adopt(at time.Duration, actual link.Actual, last dhcp6.Lease) {
	var l dhcp6.Lease
	for _, a := range actual.Addresses {
		if a.Ours && a.Prefix.Addr().Is6() && a.Prefix.IsSingleIP() && a.Valid < link.Forever {
			l.Addresses = append(l.Addresses, dhcp6.Address{Addr: a.Prefix.Addr(), Valid: a.Valid})
		}
	}
	l.Bound = at
	s.flags, _ = ndwatch.FlagsOf(s.cfg.Link.Index) // without them, prefixes are asked for alone
	var given []dhcp6.Prefix
	for _, p := range last.Prefixes {
		left := func(life time.Duration) time.Duration { return max(last.Bound+life-at, 0) }
		if left(p.Valid) > 0 {
			given = append(given, dhcp6.Prefix{Prefix: p.Prefix, Preferred: left(p.Preferred), Valid: left(p.Valid)})
		}
	}
	s.delegate = s.delegate || len(given) > 0 // until somebody says that none is wanted any more
	if s.managed() {
		l.Prefixes, given = given, nil
	}
	s.machine.Adopt(l)
	s.prefixes.Adopt(dhcp6.Lease{Prefixes: given, Server: last.Server, Bound: at})
}

// Delegate says whether prefixes are wanted, and which one best.
func (s *Source) Delegate(at time.Duration, wanted bool, wish netip.Prefix) {
	if s.cfg.Hint.IsValid() {
		wanted, wish = true, s.cfg.Hint
	}
	s.machine.Wish(wish)
	s.prefixes.Wish(wish)
	if was := s.delegate; was != wanted {
		s.delegate = wanted
		s.follow(at, s.flags)
	}
}

// Delegated returns the lease with what has been delegated.
func (s *Source) Delegated() dhcp6.Lease {
	if l, inUse := s.machine.Lease(); inUse && len(l.Prefixes) > 0 {
		return l
	}
	l, _ := s.prefixes.Lease() // if it is not in use, there are none
	return l
}

// Want adds the addresses of the DHCPv6 server.
func (s *Source) Want(at time.Duration, w *link.Wanted) {
	l, inUse := s.machine.Lease()
	if !inUse {
		return
	}
	for _, a := range l.Addresses {
		if valid := l.Bound + a.Valid - at; valid > 0 {
			w.Addresses = append(w.Addresses, link.Address{Prefix: netip.PrefixFrom(a.Addr, 128), Valid: valid})
		}
	}
}

// Report adds what the DHCPv6 server has given.
func (s *Source) Report(l *netstate.Link) {
	if held, inUse := s.machine.Lease(); inUse && len(held.Server) > 0 {
		l.Lease6 = &held
	}
}

// Names returns the name servers and domains, those of routers first.
func (s *Source) Names() (resolv.Source, bool) {
	out := resolv.Source{Link: s.cfg.Link.Name, Metric: s.cfg.Metric}
	if s.cfg.IgnoreDNS {
		return out, false
	}
	server := func(a netip.Addr) {
		if a.IsLinkLocalUnicast() {
			a = a.WithZone(s.cfg.Link.Name)
		}
		if !slices.Contains(out.Servers, a) {
			out.Servers = append(out.Servers, a)
		}
	}
	domain := func(d string) {
		if !slices.Contains(out.Search, d) {
			out.Search = append(out.Search, d)
		}
	}
	for _, n := range s.servers {
		server(n.addr)
	}
	for _, n := range s.domains {
		domain(n.text)
	}
	for _, m := range s.machines() {
		l, _ := m.Lease() // if it is not in use, there are none
		for _, a := range l.DNS {
			server(a)
		}
		for _, d := range l.Search {
			domain(d)
		}
	}
	return out, len(out.Servers)+len(out.Search) > 0
}

// Carrier starts what the flags of the routers say, or ends all questions.
func (s *Source) Carrier(at time.Duration, there bool) {
	s.there, s.lost = there, 0
	if !there {
		s.machine.Stop()
		s.prefixes.Stop()
		s.hush()
		s.lost = at + s.cfg.Hold
		return
	}
	flags, err := ndwatch.FlagsOf(s.cfg.Link.Index)
	if err != nil {
		s.cfg.Log.Warn("routers not asked", "error", err)
	}
	s.follow(at, flags)
}

// Router takes an event about the link.
func (s *Source) Router(at time.Duration, e ndwatch.Event) {
	if e.Flagged && s.there {
		s.follow(at, e.Flags)
	}
	before, _ := s.Names()
	for _, r := range e.Servers {
		s.servers = put(s.servers, named{addr: r.Addr, ends: at + r.Lifetime}, r.Lifetime, maxServers)
	}
	for _, d := range e.Domains {
		n := named{text: strings.ToLower(d.Name), ends: at + d.Lifetime}
		s.domains = put(s.domains, n, d.Lifetime, maxDomains)
	}
	s.changed(before)
}

// put adds n, or renews it, or removes it if its lifetime is 0.
func put(list []named, n named, lifetime time.Duration, most int) []named {
	i := slices.IndexFunc(list, func(o named) bool { return o.text == n.text && o.addr == n.addr })
	switch {
	case i >= 0 && lifetime == 0:
		return slices.Delete(list, i, i+1)
	case i >= 0:
		list[i] = n
	case lifetime > 0 && len(list) < most:
		return append(list, n)
	}
	return list
}

// changed has the name servers written again if they are others than before.
func (s *Source) changed(before resolv.Source) {
	after, _ := s.Names()
	if !slices.Equal(before.Servers, after.Servers) || !slices.Equal(before.Search, after.Search) {
		s.cfg.Log.Info("name servers of IPv6", "names", after.Servers)
		s.cfg.Owner.NamesChanged()
	}
}

func (s *Source) machines() [2]*dhcp6.Machine { return [...]*dhcp6.Machine{s.machine, s.prefixes} }

// managed reports whether a server is asked for addresses.
func (s *Source) managed() bool { return s.flags.Managed || s.cfg.Always }

// follow starts the DHCPv6 client as the routers say.
func (s *Source) follow(at time.Duration, f ndwatch.Flags) {
	if s.flags = f; !s.there {
		return
	}
	mode := dhcp6.None
	switch {
	case s.managed():
		mode = dhcp6.Addresses
	case f.Other:
		mode = dhcp6.Information
	}
	s.carry(at, s.machine.Start(at, mode, s.delegate && s.managed()))
	s.carry(at, s.prefixes.Start(at, dhcp6.None, s.delegate && !s.managed()))
}

// Renamed does nothing: the server gets the new name with the next renewal.
func (s *Source) Renamed(time.Duration) {}

// Deadline returns when something ends or the DHCPv6 client needs a Tick.
func (s *Source) Deadline() time.Duration {
	first := s.lost
	for _, n := range slices.Concat(s.servers, s.domains) {
		first = earlier(first, n.ends)
	}
	return earlier(first, earlier(s.machine.Deadline(), s.prefixes.Deadline()))
}

// earlier is the first of two instants, of which 0 is never.
func earlier(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Tick ends what is over.
func (s *Source) Tick(at time.Duration) {
	before, _ := s.Names()
	if s.lost != 0 && at >= s.lost {
		s.lost, s.servers, s.domains = 0, nil, nil
		if one, other := s.machine.Forget(), s.prefixes.Forget(); one || other {
			s.cfg.Owner.Configure(at)
		}
	}
	over := func(n named) bool { return at >= n.ends }
	s.servers, s.domains = slices.DeleteFunc(s.servers, over), slices.DeleteFunc(s.domains, over)
	s.changed(before)
	for _, m := range s.machines() {
		s.carry(at, m.Timer(at))
	}
}

// Close closes the socket. The addresses stay.
func (s *Source) Close() { s.hush() }

// carry carries out what the DHCPv6 client asks for.
func (s *Source) carry(at time.Duration, r dhcp6.Result) {
	s.listen()
	if r.Send != nil && s.receiver != nil {
		if err := s.receiver.socket.Send(r.Send); err != nil {
			s.note(err.Error()) // the machine repeats it
		}
	}
	s.note(r.Note)
	if !r.Changed {
		return
	}
	if l, inUse := s.machine.Lease(); inUse && s.machine.State() != dhcp6.Off {
		s.cfg.Log.Info("DHCPv6 settings", "count", len(l.Addresses), "state", s.machine.State().String())
	}
	for _, p := range s.Delegated().Prefixes {
		s.cfg.Log.Info("prefix delegated", "address", p.Prefix.String())
	}
	s.cfg.Owner.Configure(at)
	s.cfg.Owner.NamesChanged()
}

// note logs a fault, but not the same again and again.
func (s *Source) note(text string) {
	if text != "" && text != s.fault {
		s.cfg.Log.Warn("DHCPv6 remark", "reason", text)
	}
	s.fault = cmp.Or(text, s.fault)
}
