package main

import (
	"context"
	"sync"
	"time"

	"resinos/net/filter"
	"resinos/net/netd"
	"resinos/net/ruleset"
	"resinos/services/boottime"
	"resinos/services/config"
	"resinos/services/settings"
)

// While a device boots, the filter waits for filterPause: nothing listens then that it would close (decision 0042), and
// the first container starts sooner.
const (
	booting     = time.Minute // since kernel start
	filterPause = 10 * time.Second
)

// filterPackets keeps the packet filter beside netd until ctx ends; wait returns when it has ended. Each of look is
// called too when somebody has changed tables of the kernel.
func filterPackets(ctx context.Context, cfg *netd.Config, look ...func()) (wait func()) {
	pause := time.Duration(0)
	if boottime.Now() < booting { // not after a restart of netd
		pause = filterPause
	}
	keeper := filter.New(cfg.Log, pause)
	follow(cfg, keeper.Follow)
	addFaults(cfg, keeper.Fault)
	addRules(cfg, keeper.Steps)
	var beside sync.WaitGroup
	beside.Go(func() { keeper.Run(ctx) })
	beside.Go(func() {
		select {
		case <-keeper.Began(): // to watch loads modules, which the first container need not wait for
		case <-ctx.Done():
			return
		}
		err := ruleset.Watch(ctx, func() {
			keeper.Check()
			for _, one := range look {
				one()
			}
		})
		if err != nil {
			cfg.Log.Warn("packet filter not watched", "error", err)
		}
	})
	beside.Go(func() {
		err := settings.Follow(ctx, settings.Follower{Path: cfg.Settings, Daemon: "netd",
			Keys: []string{config.DevelopmentMode, config.SSHKeys, config.OpenPorts}, Log: cfg.Log,
			Apply: func(s settings.Settings) error {
				closed := !s.Flag(config.DevelopmentMode)
				ssh := !closed || len(s.List(config.SSHKeys)) > 0
				keeper.Set(closed, ssh, filter.ParsePorts(s.List(config.OpenPorts)))
				return nil
			}})
		if ctx.Err() == nil {
			cfg.Log.Error("settings are not followed", "error", err)
		}
	})
	return beside.Wait
}
