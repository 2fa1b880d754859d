package netd

import (
	"log/slog"

	"resinos/net/lease"
)

// announceQueue is how many leases may wait for a callback that blocks. A device has a handful of links.
const announceQueue = 16

// announcer calls OnLease from its own goroutine, so that a slow callback delays no lease.
type announcer struct {
	leases chan lease.Lease // closed by close
	done   chan struct{}
	log    *slog.Logger
}

func announce(call func(lease.Lease), log *slog.Logger) *announcer {
	a := &announcer{leases: make(chan lease.Lease, announceQueue), done: make(chan struct{}), log: log}
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

func (a *announcer) tell(l lease.Lease) {
	select {
	case a.leases <- l:
	default:
		a.log.Warn("lease not announced, the listener is slow", "link", l.Link)
	}
}

func (a *announcer) close() {
	close(a.leases)
	<-a.done
}
