package main

import (
	"context"
	"net/netip"
	"os"
	"sync"

	"resinos/net/forward"
	"resinos/net/mdns"
	"resinos/net/netd"
	"resinos/services/notify"
)

// answerNames runs the forwarder beside netd until ctx ends, and has netd tell it the servers; wait returns when it has
// ended. If the forwarder cannot listen, as when a container has the port, resolv.conf names the servers themselves,
// and the result is nil.
func answerNames(ctx context.Context, cfg *netd.Config, local *mdns.Responder) (f *forward.Forwarder, wait func()) {
	var beside sync.WaitGroup
	packets, streams, err := forward.Listen(netip.AddrPortFrom(forward.Address, 53),
		notify.FromParent(os.Getenv, os.Getpid()))
	if err != nil {
		cfg.Log.Warn("no forwarder", "error", err)
		return nil, beside.Wait
	}
	forwarder := forward.New(forward.Config{Packets: packets, Streams: streams, Log: cfg.Log,
		Local: local.Lookup, LocalDomain: mdns.Domain})
	cfg.Forwarder, cfg.Names = forward.Address, forwarder.Set
	beside.Go(func() {
		if err := forwarder.Run(ctx); err != nil {
			cfg.Log.Warn("forwarder not closed", "error", err)
		}
	})
	return forwarder, beside.Wait
}
