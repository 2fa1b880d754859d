package settings

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
	"resinos/services/boottime"
)

// Follower is a daemon that follows some keys.
type Follower struct {
	Path   string // empty: Path
	Daemon string // its name, for the record of what it did; empty: nothing is recorded
	Keys   []string
	Log    *slog.Logger // nil: nothing is logged

	// Apply is called with the settings in force: first as soon as anything is published, then whenever one of the keys
	// changes. Its error is recorded for the operator; Apply is not called again for it.
	Apply func(Settings) error
}

// Follow calls f.Apply until ctx is cancelled, then returns its cause. It fails only if it cannot begin; callers log
// that and continue, because a daemon without its settings is better than none.
func Follow(ctx context.Context, f Follower) error {
	if f.Path == "" {
		f.Path = Path
	}
	if f.Log == nil {
		f.Log = slog.New(slog.DiscardHandler)
	}
	dir := filepath.Dir(f.Path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("follow settings: %w", err)
	}
	// The file is only ever replaced by a rename, so one kind of event is enough, and one read takes all of them.
	watch, err := dirwatch.Open(dir, unix.IN_MOVED_TO, f.Log)
	if err != nil {
		return fmt.Errorf("follow settings: %w", err)
	}
	defer watch.Close() // nothing was written
	return f.follow(ctx, watch)
}

// stale limits the effect of a lost event.
const stale = time.Hour

func (f Follower) follow(ctx context.Context, watch *dirwatch.Watch) error {
	var last Settings
	first := true
	for {
		now, err := Read(f.Path)
		switch {
		case err != nil:
			f.Log.Warn("settings not read, the last ones stay in force", "error", err)
		case now.Values != nil && (first || !now.Same(last, f.Keys)):
			f.take(now)
			first, last = false, now
		}
		if err := watch.Wait(ctx, stale); err != nil {
			if ctx.Err() != nil {
				return err
			}
			return fmt.Errorf("follow settings: %w", err)
		}
	}
}

func (f Follower) take(s Settings) {
	err := f.Apply(s)
	if err != nil {
		f.Log.Warn("setting not applied", "error", err)
	}
	if f.Daemon == "" {
		return
	}
	if err := Take(f.Path, f.Daemon, s, f.Keys, boottime.Now(), err); err != nil {
		f.Log.Warn("applied setting not recorded", "error", err)
	}
}
