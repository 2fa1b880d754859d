package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"resinos/net/clock"
	"resinos/net/clockstatus"
	"resinos/net/lease"
	"resinos/net/savedtime"
	"resinos/net/timed"
	"resinos/services/config"
	"resinos/services/osrelease"
	"resinos/services/settings"
)

// keepTime runs timed beside netd until ctx is cancelled; wait returns when it has ended. The caller passes each lease
// to leased. Links do not depend on the time: if timed cannot begin, that is logged and netd goes on.
func keepTime(ctx context.Context, log *slog.Logger) (leased func(lease.Lease), wait func()) {
	leases := make(chan lease.Lease)
	ended := make(chan struct{}) // closed when nobody takes leases any more
	var beside sync.WaitGroup
	beside.Go(func() {
		defer close(ended)
		if err := runTimed(ctx, leases, log); err != nil {
			log.Error("clock not kept", "error", err)
		}
	})
	leased = func(l lease.Lease) {
		select {
		case leases <- l:
		case <-ended:
		}
	}
	return leased, beside.Wait
}

func runTimed(ctx context.Context, leases <-chan lease.Lease, log *slog.Logger) error {
	if !clock.Ours() {
		log.Info("clock is left to the host")
		return nil
	}
	kernel, err := timed.OpenKernel()
	if err != nil {
		return err
	}
	defer kernel.Close()
	var servers atomic.Pointer[string]
	changed := make(chan struct{}, 1)
	ctx, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { followServers(ctx, &servers, changed, log) })
	defer beside.Wait()
	defer stop()
	return timed.Run(ctx, timed.Config{
		Clock: kernel, Build: osrelease.BuildTime(), Leases: leases, Changed: changed, Log: log,
		Status: clockstatus.Path, Synced: clockstatus.SyncedPath, Saved: savedtime.Path,
		Servers: func() string {
			if s := servers.Load(); s != nil {
				return *s
			}
			return "" // nothing is published yet; what comes is told
		},
	})
}

// followServers keeps servers equal to what config.json names, and reports changes, until ctx is cancelled.
func followServers(ctx context.Context, servers *atomic.Pointer[string], changed chan<- struct{}, log *slog.Logger) {
	apply := func(s settings.Settings) error {
		names := strings.Join(s.List(config.NTPServers), " ")
		servers.Store(&names)
		select {
		case changed <- struct{}{}:
		default: // it has not looked since the last time
		}
		return nil
	}
	err := settings.Follow(ctx, settings.Follower{Daemon: "netd", Keys: []string{config.NTPServers}, Log: log,
		Apply: apply})
	if ctx.Err() == nil {
		log.Error("settings are not followed", "error", err)
	}
}
