package dhcpclient

import (
	"log/slog"

	"resinos/net/lease"
)

// announceQueue is how many leases may wait for a callback that blocks. A device has a handful of links.
const announceQueue = 16

// Announcer tells others of leases from its own goroutine, so that a slow listener delays no lease.
type Announcer struct {
	leases chan lease.Lease // closed by Close
	done   chan struct{}
	log    *slog.Logger
}

// Announce calls call with each lease that Tell gets, one at a time; nil: nobody listens. Close ends it.
func Announce(call func(lease.Lease), log *slog.Logger) *Announcer {
	a := &Announcer{leases: make(chan lease.Lease, announceQueue), done: make(chan struct{}), log: log}
	go func() {
		defer close(a.done)
		for l := range a.leases {
			if call != nil {
				call(l)
			}
		}
	}()
	return a
}

// Tell announces a lease, unless too many wait already. It does not block.
func (a *Announcer) Tell(l lease.Lease) {
	select {
	case a.leases <- l:
	default:
		a.log.Warn("lease not announced, the listener is slow", "link", l.Link)
	}
}

// Close waits until what was told has been announced.
func (a *Announcer) Close() {
	close(a.leases)
	<-a.done
}
