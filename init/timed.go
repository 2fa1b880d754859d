package main

import (
	"context"
	"log/slog"
	"sync"

	"resinos/init/boot"
	"resinos/init/config"
	"resinos/net/clock"
	"resinos/net/lease"
	"resinos/net/timed"
)

// keepTime runs timed beside netd until ctx is cancelled; wait returns when it has ended. Each lease is to be told to it. Links do not
// depend on it: when it cannot begin, it says so and that is all.
func keepTime(ctx context.Context, log *slog.Logger) (leased func(lease.Lease), wait func()) {
	leases := make(chan lease.Lease)
	ended := make(chan struct{}) // closed when nobody takes leases any more
	var beside sync.WaitGroup
	beside.Go(func() {
		defer close(ended)
		if err := runTimed(ctx, leases, log); err != nil {
			log.Error("nobody keeps the clock right", "error", err)
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
	return timed.Run(ctx, timed.Config{
		Clock: kernel, Build: boot.BuildTime(), Leases: leases, Log: log,
		Status: clock.StatusPath, Synced: clock.SyncedPath, Saved: clock.SavedPath,
		Servers: func() string { return config.Values(config.Path)["ntpServers"] },
	})
}
