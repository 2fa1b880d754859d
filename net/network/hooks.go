package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
	"resinos/net/hooks"
	"resinos/net/netcontrol"
	"resinos/net/netd"
	"resinos/net/netstate"
	"resinos/net/ownrules"
	"resinos/services/control"
)

// hooksState is what hooks were told last.
const hooksState = "/run/resinos/hooks.json"

// runHooks has netrun run the owner's hooks beside netd until ctx ends; wait returns when it has ended.
func runHooks(ctx context.Context, cfg *netd.Config) (wait func()) {
	n := &hooks.Notifier{Dir: hooks.Dir, File: hooksState, Log: cfg.Log,
		Send: func(ctx context.Context, e hooks.Event) error {
			return control.Call(ctx, netrunSocket, opEvent, e, nil)
		}}
	follow(cfg, n.Follow)
	var beside sync.WaitGroup
	beside.Go(func() { n.Run(ctx) })
	return beside.Wait
}

// follow adds one more that is told what is configured.
func follow(cfg *netd.Config, one func(netstate.State)) {
	before := cfg.Changed
	cfg.Changed = func(s netstate.State) {
		if before != nil {
			before(s)
		}
		one(s)
	}
}

// addRules adds one more that has rules of the packet filter for the plan.
func addRules(cfg *netd.Config, rules func() []string) {
	before := cfg.Rules
	cfg.Rules = func() (all []string) {
		if before != nil {
			all = before()
		}
		return append(all, rules()...)
	}
}

// addFaults adds one more that may have a fault for the status.
func addFaults(cfg *netd.Config, fault func() string) {
	addStatus(cfg, func(s *netcontrol.Status) {
		if text := fault(); text != "" {
			s.Faults = append(s.Faults, text)
		}
	})
}

// addStatus adds one more that has something for the status.
func addStatus(cfg *netd.Config, one func(*netcontrol.Status)) {
	before := cfg.Status
	cfg.Status = func(s *netcontrol.Status) {
		if before != nil {
			before(s)
		}
		one(s)
	}
}

// loadRules has netrun load the owner's rules, at the start and when a file changes, until ctx ends; wait returns when
// it has ended.
func loadRules(ctx context.Context, log *slog.Logger) (wait func()) {
	var beside sync.WaitGroup
	beside.Go(func() {
		for ctx.Err() == nil {
			if err := watchRules(ctx, ownrules.Dir, log); err != nil && ctx.Err() == nil {
				log.Warn("rules not watched", "path", ownrules.Dir, "error", err)
				return
			}
		}
	})
	return beside.Wait
}

// watchRules loads the rules each time that the directory changes. It returns nil when the watch has to begin again,
// because the directory has come or gone.
func watchRules(ctx context.Context, dir string, log *slog.Logger) error {
	const mask = unix.IN_CLOSE_WRITE | unix.IN_MOVE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_ATTRIB
	w, err := dirwatch.Open(dir, mask, log)
	there := err == nil
	if !there {
		w, err = dirwatch.Open(filepath.Dir(dir), mask, log) // until somebody creates it
	}
	if err != nil {
		return err
	}
	defer w.Close() // it is read no more
	for {
		if ownrules.Any(dir, ownrules.State) {
			var files []ownrules.File
			if err := control.Call(ctx, netrunSocket, opRules, nil, &files); err != nil && ctx.Err() == nil {
				log.Warn("rules not loaded", "error", err)
			}
		}
		if err := w.Wait(ctx, 0); err != nil || !there {
			return nil
		}
	}
}
