// Package refresh decides when an image that the device has is pulled again, as the pull_policy of a container asks. It
// pulls nothing itself and replaces no container: the manager replaces containers whose image has changed. Read Due
// first.
package refresh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"resinos/containers/app"
	"resinos/containers/store"
)

const (
	// first is the least time from the start of the manager to the first look at images: not while the device boots.
	first = 90 * time.Second
	// every is the time between two looks, and until a failed pull is tried again. A random part of it delays the first
	// look: devices that one power failure switched off and on do not all ask their registry at once.
	every = 10 * time.Minute
)

// Refresher pulls images again.
type Refresher struct {
	// Wanted are the images of this moment and the policies of their containers.
	Wanted func() []store.Refresh
	// Came returns when each image that the device has was pulled last.
	Came func(ctx context.Context) (map[string]time.Time, error)
	// Pull makes an attempt.
	Pull func(ctx context.Context, image string) error
	Log  *slog.Logger
}

// Due reports whether an image is to be pulled again, and is pure. fresh is true if it has been pulled since the device
// came up. If the clock was set back, the image becomes due later.
func Due(policy string, came, now time.Time, fresh bool) bool {
	if policy == app.PullAlways {
		return !fresh
	}
	text, periodic := strings.CutPrefix(policy, app.PullEvery)
	period, err := time.ParseDuration(text)
	return periodic && err == nil && now.Sub(came) >= period
}

// Run pulls what is due until ctx is done.
func (r *Refresher) Run(ctx context.Context) {
	fresh := map[string]bool{} // images with PullAlways
	timer := time.NewTimer(first + rand.N(every))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(every)
		wanted := r.Wanted()
		if len(wanted) == 0 {
			continue
		}
		came, err := r.Came(ctx)
		if err != nil {
			r.Log.Warn("container images not refreshed", "error", err)
			continue
		}
		for _, image := range due(wanted, came, time.Now(), fresh) {
			if err := r.Pull(ctx, image); err != nil {
				r.Log.Warn("container image not refreshed", "image", image, "error", err, "retry", every)
				continue
			}
			fresh[image] = true
		}
	}
}

// due returns the images to pull. Images that the device does not have are left out: they are pulled for the containers
// that want them.
func due(wanted []store.Refresh, came map[string]time.Time, now time.Time, fresh map[string]bool) []string {
	var out []string
	for _, w := range wanted {
		at, there := came[w.Image]
		if there && !slices.Contains(out, w.Image) && Due(w.Policy, at, now, fresh[w.Image]) {
			out = append(out, w.Image)
		}
	}
	return out
}

// Now pulls the wanted images that the device has and that are due, while a person waits.
func (r *Refresher) Now(ctx context.Context, wanted []store.Refresh) error {
	if len(wanted) == 0 {
		return nil
	}
	came, err := r.Came(ctx)
	if err != nil {
		return err
	}
	var faults []error
	for _, image := range due(wanted, came, time.Now(), nil) {
		if err := r.Pull(ctx, image); err != nil {
			faults = append(faults, fmt.Errorf("pull %s: %w", image, err))
		}
	}
	return errors.Join(faults...)
}
