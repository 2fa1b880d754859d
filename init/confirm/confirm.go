package confirm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"resinos/bsp/update"
)

// Device is what the confirmation asks and changes. The real one is that of the updater.
type Device interface {
	// Look returns what the device looks like now.
	Look(ctx context.Context) Look
	// Settle judges how the update stands, and writes what has to be corrected.
	Settle(ctx context.Context) (update.Settled, error)
	// Reached notes that this boot came as far as its services.
	Reached() error
	// Confirm has the device stay with the slot. It fails if the slot is not on trial any more.
	Confirm(ctx context.Context, reason string) error
	// GiveUp records why the slot is left, and has the next boot start the other one.
	GiveUp(ctx context.Context, cause update.Cause, reason string) error
	// Reboot ends the boot.
	Reboot(ctx context.Context) error
}

// Config is what Run needs.
type Config struct {
	Device Device
	Checks string        // directory of the owner's checks
	Stable time.Duration // for which everything has to be well
	Until  time.Duration // since the kernel started: then the slot is left
	Limit  time.Duration // for one of the owner's checks; 0: one minute
	Every  time.Duration // from one look to the next
	Now    func() time.Duration
	Log    *slog.Logger
}

// The times of a device whose owner has set no others.
const (
	Stable   = time.Minute
	Deadline = 10 * time.Minute
	Every    = 2 * time.Second
)

// Run returns when nothing is on trial any more: the slot was confirmed, here or by hand, or it is being left.
func Run(ctx context.Context, c Config) error {
	s, err := c.Device.Settle(ctx)
	for _, line := range s.Says {
		c.Log.Warn("update settled", "reason", line)
	}
	if err != nil {
		return err
	}
	if s.Leaving {
		return c.Device.Reboot(ctx)
	}
	if !s.OnTrial {
		return nil
	}
	if err := c.Device.Reached(); err != nil {
		c.Log.Warn("boot on trial not recorded", "error", err) // the reason of a failure says less, the trial goes on
	}
	var before update.Before
	if a, open := s.Record.Current(); open {
		before = a.Before
	}
	return c.watch(ctx, before)
}

// watch looks at the device until it has been well for long enough, or for too long not.
func (c Config) watch(ctx context.Context, before update.Before) error {
	c.Log.Info("slot on trial", "wait", c.Stable, "limit", c.Until)
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	var good steady
	var failed error // of the owner's checks, when they last ran
	for last := ""; ; {
		look := c.Device.Look(ctx)
		missing := Judge(look, before)
		if good.since(c.Now(), len(missing) == 0, look.restarts(before)) >= c.Stable {
			if failed = c.owners(ctx); failed == nil {
				c.Log.Info("slot confirmed")
				return c.Device.Confirm(ctx, "")
			}
			good.began = c.Now() - c.Stable + min(c.Stable, ownersPause) // they run again after a pause
		}
		if len(missing) == 0 && failed != nil {
			missing = []string{failed.Error()} // in the pause too: it is the reason if the deadline passes then
		}
		if text := strings.Join(missing, "; "); text != last {
			c.Log.Info("slot not confirmed yet", "reason", text)
			last = text
		}
		if c.Now() >= c.Until {
			return c.giveUp(ctx, missing)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if s, err := c.Device.Settle(ctx); err == nil && !s.OnTrial {
			return nil // somebody has decided by hand
		}
	}
}

// ownersPause is the time from a failure of the owner's checks to their next try.
const ownersPause = 10 * time.Second

func (c Config) owners(ctx context.Context) error {
	left := max(c.Until-c.Now(), time.Second)
	ctx, cancel := context.WithTimeoutCause(ctx, left, errors.New("no answer before the slot is left"))
	defer cancel()
	limit := c.Limit
	if limit == 0 {
		limit = checkTime
	}
	return ownersChecks(ctx, c.Checks, limit)
}

func (c Config) giveUp(ctx context.Context, missing []string) error {
	reason := fmt.Sprintf("everything was well, but not for %v without a restart", c.Stable)
	if len(missing) > 0 {
		reason = strings.Join(missing, "; ")
	}
	reason = fmt.Sprintf("not healthy %v after the start: %s", c.Until, reason)
	c.Log.Error("slot is left", "reason", reason)
	if err := c.Device.GiveUp(ctx, update.Unhealthy, reason); err != nil {
		c.Log.Error("reason not recorded", "error", err) // the tries that are left bring the device back all the same
	}
	return c.Device.Reboot(ctx)
}

// steady measures for how long everything has been well, without anything being started again.
type steady struct {
	good     bool
	began    time.Duration
	restarts int
}

func (s *steady) since(now time.Duration, well bool, restarts int) time.Duration {
	if !well || !s.good || restarts != s.restarts {
		s.good, s.began, s.restarts = well, now, restarts
	}
	if !well {
		return 0
	}
	return now - s.began
}
