package forward

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"resinos/net/dnswire"
)

// avoid is how long a server that did not answer is asked after the others.
const avoid = 30 * time.Second

// health remembers which servers did not answer.
type health struct {
	mu     sync.Mutex // guards silent
	silent map[netip.AddrPort]time.Time
}

// order returns the servers, those that did not answer lately behind the others.
func (h *health) order(servers []netip.AddrPort, now time.Time) []netip.AddrPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := slices.Clone(servers)
	late := func(s netip.AddrPort) bool { at, known := h.silent[s]; return known && now.Sub(at) < avoid }
	slices.SortStableFunc(out, func(a, b netip.AddrPort) int {
		switch {
		case late(a) == late(b):
			return 0
		case late(a):
			return 1
		}
		return -1
	})
	return out
}

func (h *health) note(s netip.AddrPort, answered bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if answered {
		delete(h.silent, s)
		return
	}
	if h.silent == nil || len(h.silent) > 64 { // the servers of networks that are gone
		h.silent = map[netip.AddrPort]time.Time{}
	}
	h.silent[s] = now
}

var errNoServer = errors.New("no server for the name")

// answer is what one server said.
type answer struct {
	from  netip.AddrPort
	reply dnswire.Reply
	err   error
}

// good reports whether no other server needs to be asked.
func (a answer) good() bool {
	return a.err == nil && (a.reply.Code == dnswire.Success || a.reply.Code == dnswire.NoName)
}

// resolve asks the servers, one more whenever the last one refuses or is silent for a while. It returns when all that
// it started has ended.
func (h *health) resolve(ctx context.Context, q dnswire.Question, servers []netip.AddrPort) (dnswire.Reply, error) {
	if len(servers) == 0 {
		return dnswire.Reply{}, errNoServer
	}
	ctx, stop := context.WithTimeout(ctx, patience)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer stop()
	answers := make(chan answer, len(servers))
	rest := h.order(servers, time.Now())
	waiting := map[netip.AddrPort]time.Time{} // when they were asked
	next := func() {
		if len(rest) == 0 {
			return
		}
		server := rest[0]
		rest, waiting[server] = rest[1:], time.Now()
		beside.Go(func() {
			reply, err := ask(ctx, q, server)
			answers <- answer{server, reply, err}
		})
	}
	timer := time.NewTimer(hedge)
	defer timer.Stop()
	err := errNoServer
	for next(); len(waiting) > 0; {
		select {
		case <-timer.C:
			next()
			timer.Reset(hedge)
		case a := <-answers:
			asked := waiting[a.from]
			delete(waiting, a.from)
			if !a.good() {
				err = errors.Join(err, a.err)
				h.note(a.from, a.err == nil, time.Now())
				next()
				timer.Reset(hedge)
				continue
			}
			h.note(a.from, true, time.Now())
			for other, at := range waiting {
				if at.Before(asked) { // slower by hedge at least
					h.note(other, false, time.Now())
				}
			}
			return a.reply, nil
		}
	}
	return dnswire.Reply{}, err
}

// forget makes all servers equal again.
func (h *health) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.silent = nil
}
