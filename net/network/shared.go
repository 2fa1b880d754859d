package main

import (
	"context"
	"sync"

	"resinos/net/forward"
	"resinos/net/netd"
	"resinos/net/sharing"
)

// shareLinks serves the shared links beside netd until ctx ends, and has netd tell which they are; wait returns when it
// has ended.
func shareLinks(ctx context.Context, cfg *netd.Config, f *forward.Forwarder) (r *sharing.Router, wait func()) {
	c := sharing.Config{Dir: cfg.SharedDir, Log: cfg.Log}
	if f != nil {
		c.Names = f.Also
	}
	router := sharing.New(c)
	follow(cfg, router.Follow)
	addFaults(cfg, router.Fault)
	addRules(cfg, router.Steps)
	var beside sync.WaitGroup
	beside.Go(func() { router.Run(ctx) })
	return router, beside.Wait
}
