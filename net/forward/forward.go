// Package forward answers the name questions of the device: it asks the servers of the links and of the owner, keeps
// their answers, and decides which server may know which name.
//
// It reads no configuration and knows no link: Set gives it the servers. It never follows a name to another server by
// itself; the servers are resolvers.
//
// Read first: Forwarder.
package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"resinos/net/dnswire"
	"resinos/net/resolv"
)

// Address is where the device's resolvers ask. It is not 127.0.0.1, so that a container on the host's network may serve
// names there.
var Address = netip.MustParseAddr("127.0.0.2")

// The limits that hold memory and goroutines under any flood.
const (
	maxFlights = 256 // questions that wait for servers
	maxWaiters = 32  // clients that wait for one of them
	maxStreams = 32  // connections over TCP
)

// The lifetimes that clients see.
const (
	staleLifetime = 30 * time.Second // of an answer that is too old
	localLifetime = 10               // seconds, of an answer that Local gives
)

// staleAfter is how long servers are waited for if there is an old answer (RFC 8767, 5).
const staleAfter = 1800 * time.Millisecond

// Config holds what a Forwarder needs. All of it may be left out but the sockets.
type Config struct {
	Packets net.PacketConn // a *net.UDPConn
	Streams net.Listener
	// Local answers for the names of a domain that no server knows (mDNS). It returns the data of the records, and
	// reports whether the name exists. It may block until ctx ends.
	Local       func(ctx context.Context, q dnswire.Question) (data [][]byte, exists bool)
	LocalDomain dnswire.Name // empty: none
	Log         *slog.Logger // nil: nothing is logged
}

// Forwarder answers questions on its sockets. New creates one, Run serves.
type Forwarder struct {
	cfg    Config
	health health
	slots  chan struct{} // connections over TCP
	begin  chan struct{} // closed by the first Set
	first  sync.Once
	life   context.Context // of the questions that are being asked: several clients may wait for one
	end    func()

	mu      sync.Mutex // guards what follows
	routes  []route
	cache   cache
	flights map[dnswire.Question]*flight
	work    sync.WaitGroup
	ended   bool // no further flight begins
}

// flight is a question that is being asked, and who waits for the answer.
type flight struct{ waiters []waiter }

type waiter struct {
	query dnswire.Query
	reply func([]byte) // must not block for long; called once or never
}

// New returns a forwarder without servers. It owns the sockets from now on.
func New(cfg Config) *Forwarder {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := &Forwarder{cfg: cfg, slots: make(chan struct{}, maxStreams), begin: make(chan struct{}),
		flights: map[dnswire.Question]*flight{}}
	f.life, f.end = context.WithCancel(context.Background())
	return f
}

// Set replaces the servers. Answers of the old ones are then given only if the new ones do not answer.
func (f *Forwarder) Set(sources []resolv.Source) {
	defer f.first.Do(func() { close(f.begin) })
	routes := routesOf(sources)
	f.mu.Lock()
	defer f.mu.Unlock()
	if fmt.Sprint(routes) == fmt.Sprint(f.routes) {
		return
	}
	f.routes = routes
	f.cache.expire(time.Now())
	f.health.forget()
}

// Run serves from the first Set until ctx ends, then closes the sockets and waits for all that it started. Questions
// that come earlier, as while netd is started again, wait in the sockets: without servers they would fail.
func (f *Forwarder) Run(ctx context.Context) error {
	err := f.Also(ctx, f.cfg.Packets, f.cfg.Streams)
	f.end()
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.work.Wait()
	return err
}

// Also serves on further sockets, which it owns, from the first Set until ctx ends. The limits and the kept answers are
// common to all sockets.
func (f *Forwarder) Also(ctx context.Context, packets net.PacketConn, streams net.Listener) error {
	select {
	case <-f.begin:
	case <-ctx.Done():
	}
	var all sync.WaitGroup
	all.Go(func() { f.servePackets(packets.(*net.UDPConn)) })
	all.Go(func() { f.serveStreams(ctx, streams) })
	<-ctx.Done()
	err := errors.Join(packets.Close(), streams.Close())
	all.Wait()
	return err
}

// servePackets reads datagrams. Answers that are known are sent from here, so that no flood of questions costs more
// than this goroutine.
func (f *Forwarder) servePackets(conn *net.UDPConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about an earlier reply
		}
		query, code, err := dnswire.ParseQuery(buf[:n])
		if err != nil {
			continue
		}
		f.handle(query, code, func(p []byte) {
			_, _ = conn.WriteToUDPAddrPort(query.Fit(p), from) // the client may be gone
		})
	}
}

// handle has reply called with the answer, at once or later. It does not block.
func (f *Forwarder) handle(query dnswire.Query, code int, reply func([]byte)) {
	if code != dnswire.Success {
		reply(query.Code(code))
		return
	}
	if p := special(query); p != nil {
		reply(p)
		return
	}
	if p := f.known(query, reply); p != nil {
		reply(p)
	}
}

// special answers what no server may be asked, or returns nil.
func special(q dnswire.Query) []byte {
	switch {
	case q.Class != dnswire.ClassIN && q.Class != uint16(dnswire.TypeANY):
		return q.Code(dnswire.NotDone)
	case q.Type >= 251 && q.Type <= 254: // zone transfers and others that are no data
		return q.Code(dnswire.NotDone)
	case q.Name.Within(localhost) && q.Type == dnswire.TypeA:
		return q.Records(localLifetime, []byte{127, 0, 0, 1})
	case q.Name.Within(localhost) && q.Type == dnswire.TypeAAAA:
		one := netip.IPv6Unspecified().Next().As16()
		return q.Records(localLifetime, one[:])
	case q.Name.Within(localhost):
		return q.Records(0)
	case within(q.Name, nowhere):
		return q.Code(dnswire.NoName)
	}
	return nil
}

// known returns the answer if it is kept. Else the query joins those that wait for it, and the result is nil; if too
// many wait, it is dropped like a lost packet, and the client asks again.
func (f *Forwarder) known(query dnswire.Query, reply func([]byte)) []byte {
	q, now := query.Question, time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.cache.find(q, now)
	if e != nil && now.Before(e.expires) {
		return e.reply.To(query, now.Sub(e.came), staleLifetime)
	}
	if e != nil && now.Before(e.retry) {
		return e.stale(query)
	}
	if one, underway := f.flights[q]; underway {
		if len(one.waiters) < maxWaiters {
			one.waiters = append(one.waiters, waiter{query, reply})
		}
		return nil
	}
	if len(f.flights) >= maxFlights || f.ended {
		if e != nil {
			return e.stale(query)
		}
		return nil
	}
	one := &flight{waiters: []waiter{{query, reply}}}
	f.flights[q] = one
	servers := choose(f.routes, q.Name)
	f.work.Go(func() { f.fly(f.life, q, servers) })
	return nil
}

// stale returns the answer with the lifetime of an old one.
func (e *entry) stale(q dnswire.Query) []byte {
	return e.reply.To(q, e.reply.Lifetime+1, staleLifetime)
}

// fly finds the answer and gives it to all that wait. If the servers are slow, those that wait get an old answer.
func (f *Forwarder) fly(ctx context.Context, q dnswire.Question, servers []netip.AddrPort) {
	if f.local(q) {
		f.flyLocal(ctx, q)
		return
	}
	slow := time.AfterFunc(staleAfter, func() { f.giveStale(q, false) })
	defer slow.Stop()
	reply, err := f.health.resolve(ctx, q, servers)
	if err != nil {
		f.cfg.Log.Debug("name not resolved", "names", q.Name.String(), "error", err)
		if f.giveStale(q, true) {
			return
		}
		code := dnswire.Failure
		if errors.Is(err, errNoServer) && len(servers) == 0 && private(q.Name) && f.online() {
			code = dnswire.NoName // only the public fallback is left, which must not see the name
		}
		for _, w := range f.land(q) {
			w.reply(w.query.Code(code))
		}
		return
	}
	f.mu.Lock()
	f.cache.keep(q, reply, time.Now())
	f.mu.Unlock()
	for _, w := range f.land(q) {
		w.reply(reply.To(w.query, 0, staleLifetime))
	}
}

// local reports whether mDNS, and no server, answers for the name: the domain is Local's, unless a link names it as its
// own.
func (f *Forwarder) local(q dnswire.Question) bool {
	if f.cfg.Local == nil || f.cfg.LocalDomain == "" || !q.Name.Within(f.cfg.LocalDomain) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.routes {
		if within(f.cfg.LocalDomain, r.domains) {
			return false
		}
	}
	return true
}

func (f *Forwarder) flyLocal(ctx context.Context, q dnswire.Question) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	data, exists := f.cfg.Local(ctx, q)
	for _, w := range f.land(q) {
		if exists {
			w.reply(w.query.Records(localLifetime, data...))
		} else {
			w.reply(w.query.Code(dnswire.NoName))
		}
	}
}

// online reports whether there is any server.
func (f *Forwarder) online() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.routes) > 0
}

// land ends the flight and returns who waits.
func (f *Forwarder) land(q dnswire.Question) []waiter {
	f.mu.Lock()
	defer f.mu.Unlock()
	one := f.flights[q]
	delete(f.flights, q)
	return one.waiters
}

// giveStale gives the old answer, if there is one, to all that wait, and to whoever asks in the next 30 s. Land says
// that nobody is asked any more.
func (f *Forwarder) giveStale(q dnswire.Question, land bool) bool {
	f.mu.Lock()
	one, e := f.flights[q], f.cache.find(q, time.Now())
	if one == nil || e == nil {
		f.mu.Unlock()
		return false
	}
	e.retry = time.Now().Add(avoid)
	waiters := one.waiters
	one.waiters = nil
	if land {
		delete(f.flights, q)
	}
	f.mu.Unlock()
	for _, w := range waiters {
		w.reply(e.stale(w.query))
	}
	return true
}
