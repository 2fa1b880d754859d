package netd

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"resinos/net/link"
	"resinos/net/linksource"
	"resinos/net/reach"
	"resinos/net/resolv"
)

// fixed is a source as a profile with an address will be one.
type fixed struct {
	address netip.Prefix
	at      time.Duration
	ticks   int
}

func (f *fixed) Want(_ time.Duration, w *link.Wanted) {
	w.Addresses = append(w.Addresses, link.Address{Prefix: f.address, Valid: link.Forever})
}
func (f *fixed) Names() (resolv.Source, bool) { return resolv.Source{}, false }
func (f *fixed) Carrier(time.Duration, bool)  {}
func (f *fixed) Renamed(time.Duration)        {}
func (f *fixed) Deadline() time.Duration      { return f.at }
func (f *fixed) Tick(time.Duration)           { f.ticks++ }
func (f *fixed) Close()                       {}

// TestSourcesTogether: a link gets what all its sources give, and each is woken at its own time.
func TestSourcesTogether(t *testing.T) {
	a, b, never := &fixed{address: netip.MustParsePrefix("10.9.0.1/24"), at: 5},
		&fixed{address: netip.MustParsePrefix("10.9.1.1/24"), at: 3}, &fixed{}
	c := &claim{mtu: 1500, sources: []linksource.Source{a, b, never}}
	d := &daemon{claims: map[int]*claim{1: c, 2: {retry: 9}}, reach: reach.NewSet(nil, nil, slog.Default())}
	defer d.reach.Close()
	c.daemon = d
	if w := c.wanted(0); len(w.Addresses) != 3 || w.Addresses[0].Prefix != a.address ||
		w.Addresses[1].Prefix != b.address || w.MTU != 1500 {
		t.Errorf("wanted %+v", w)
	}
	if at := d.deadline(); at != 3 {
		t.Errorf("deadline %d, want 3", at)
	}
	d.tick(4)
	if a.ticks != 0 || b.ticks != 1 || never.ticks != 0 {
		t.Errorf("ticks at 4: %d, %d, %d", a.ticks, b.ticks, never.ticks)
	}
}
