package main

import (
	"context"
	"log/slog"
	"sync/atomic"

	"resinos/services/config"
	"resinos/services/log/archive"
	"resinos/services/log/logd"
	"resinos/services/settings"
)

// logSettings are the keys of config.json for logd: persistentLogging, which it follows, and log.size, the budget of
// the ring, which it reads at its start.
type logSettings struct {
	log     *slog.Logger
	size    string // log.size as it was at the start
	wanted  atomic.Bool
	changed chan struct{} // gets a value when wanted may have changed
}

// settleLog gives logd the current settings of config.json at path. It reads the file itself, because logd starts
// before the settings are published.
func settleLog(cfg *logd.Config, path string, log *slog.Logger) *logSettings {
	place := &archive.Partition{Log: log}
	now := config.InForce(config.Load(path), "") // PID 1 and configd report what is wrong with the file
	s := &logSettings{log: log, size: now.Text(config.LogSize), changed: make(chan struct{}, 1)}
	s.wanted.Store(now.Flag(config.PersistentLogging))
	cfg.Archive.Place, cfg.Archive.Dir = place, place.Dir()
	cfg.Archive.Wanted, cfg.Archive.Changed = s.wanted.Load, s.changed
	if s.size != "" {
		cfg.RingBytes, _ = logd.ParseSize(s.size) // config has checked it
	}
	return s
}

// follow applies changes until ctx is cancelled.
func (s *logSettings) follow(ctx context.Context) {
	err := settings.Follow(ctx, settings.Follower{
		Daemon: "logd", Keys: []string{config.PersistentLogging, config.LogSize}, Log: s.log, Apply: s.apply,
	})
	if ctx.Err() == nil {
		s.log.Error("settings are not followed", "error", err)
	}
}

func (s *logSettings) apply(now settings.Settings) error {
	if wanted := now.Flag(config.PersistentLogging); wanted != s.wanted.Swap(wanted) {
		select {
		case s.changed <- struct{}{}:
		default: // logd has not read the last value yet
		}
	}
	if now.Text(config.LogSize) != s.size {
		return settings.Fault{Key: config.LogSize, Text: "counts from the next start of logd: osctl restart logd"}
	}
	return nil
}
