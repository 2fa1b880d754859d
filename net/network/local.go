package main

import (
	"context"
	"slices"
	"sync"

	"resinos/net/mdns"
	"resinos/net/netd"
	"resinos/services/config"
	"resinos/services/settings"
)

// ssh is what a device announces while its port is open.
var ssh = mdns.Service{Type: "_ssh._tcp", Subtype: "_resin-device", Port: 22222}

// announceName runs the responder of <hostname>.local beside netd until ctx ends; left returns when it has ended. Netd
// reports the host name, the settings whether the owner wants the device to be found, and whether ssh is open. The
// device says nothing before all of this is known.
func announceName(ctx context.Context, cfg *netd.Config) (responder *mdns.Responder, left func()) {
	responder = mdns.New(mdns.Config{Log: cfg.Log})
	a := &announced{changed: make(chan struct{}, 1), wish: mdns.Wish{Off: true}}
	cfg.Renamed = func(hostname string) { a.update(func(w *mdns.Wish) { w.Hostname = hostname }) }
	var silent []string // the goroutine of netd owns it
	cfg.Silent = func(links []string) {
		if !slices.Equal(silent, links) {
			silent = links
			a.update(func(w *mdns.Wish) { w.Silent = links })
		}
	}
	var beside sync.WaitGroup
	beside.Go(func() {
		if err := responder.Run(ctx); err != nil {
			cfg.Log.Error("name not announced", "error", err)
		}
	})
	beside.Go(func() { a.pass(ctx, responder) })
	beside.Go(func() {
		err := settings.Follow(ctx, settings.Follower{Path: cfg.Settings, Daemon: "netd",
			Keys: []string{config.Discoverable, config.DevelopmentMode, config.SSHKeys}, Log: cfg.Log,
			Apply: func(s settings.Settings) error {
				a.update(func(w *mdns.Wish) { w.Off, w.Services = !s.Flag(config.Discoverable), services(s) })
				return nil
			}})
		if ctx.Err() == nil {
			cfg.Log.Error("settings not followed", "error", err)
		}
	})
	return responder, beside.Wait
}

// services returns ssh where it is open: without the development mode only while the owner has set keys.
func services(s settings.Settings) []mdns.Service {
	if !s.Flag(config.DevelopmentMode) && len(s.List(config.SSHKeys)) == 0 {
		return nil
	}
	return []mdns.Service{ssh}
}

// announced is what the responder is to be told.
type announced struct {
	mu      sync.Mutex // guards wish
	wish    mdns.Wish
	changed chan struct{}
}

// update changes the wish. It does not block.
func (a *announced) update(change func(*mdns.Wish)) {
	a.mu.Lock()
	change(&a.wish)
	a.mu.Unlock()
	select {
	case a.changed <- struct{}{}:
	default: // the last change has not been passed on yet
	}
}

// pass gives the responder each wish until ctx ends.
func (a *announced) pass(ctx context.Context, r *mdns.Responder) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.changed:
			a.mu.Lock()
			wish := a.wish
			a.mu.Unlock()
			r.Set(ctx, wish)
		}
	}
}
