// Package linksource defines the source, which gives a link its addresses, routes and name servers: a DHCP client or a
// key file, for example. netd runs the sources of each link that it claims, all in one goroutine.
package linksource

import (
	"time"

	"resinos/net/link"
	"resinos/net/resolv"
)

// Source gives one link what it should have. All instants are counted from kernel start. Only the goroutine of netd
// calls a Source, and no call blocks.
type Source interface {
	Want(at time.Duration, w *link.Wanted) // adds what the link should have now
	Names() (resolv.Source, bool)          // name servers and domains; false: none now
	Carrier(at time.Duration, there bool)  // the carrier is there or gone
	Renamed(at time.Duration)              // the device has another host name
	Deadline() time.Duration               // when it needs a Tick; 0: never
	Tick(at time.Duration)
	Close() // ends everything that it runs; the link is not changed
}

// Owner is what a source asks of netd. Only the goroutine of netd may call its fields, except Events.
type Owner struct {
	Configure    func(at time.Duration) // configures the link as its sources want it now
	NamesChanged func()                 // the source has other name servers or domains
	// Events takes what the goroutine of netd is to run. Whoever sends must also wait for its own end: netd does not
	// read Events while it closes a source.
	Events chan<- func(at time.Duration)
}
