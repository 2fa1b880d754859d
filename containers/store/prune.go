package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Need says which images must stay.
type Need struct {
	// Images are the names in the files of apps and in existing containers, and of images that are being fetched.
	Images []string
	// Refresh are those of them that are pulled again even if they exist.
	Refresh []Refresh
	// Unsure is true while the files of an app cannot be read, so that its images are not known.
	Unsure bool
}

// Refresh is an image that a container wants to be up to date, and its pull_policy (app.PullAlways, app.PullEvery).
type Refresh struct{ Image, Policy string }

// Reason is why an image is removed.
type Reason string

// The reasons.
const (
	Asked    Reason = "a person asked"
	DiskFull Reason = "the disk is nearly full"
	TooOld   Reason = "no pull goes on with it"
)

// Removal is one removal: of an image, or of the bytes that a pull has left.
type Removal struct {
	Image  string `json:"image"`
	Pulled bool   `json:"pulled"` // false: the fetched bytes of an incomplete image
	Size   int64  `json:"size"`
	Reason Reason `json:"reason"`
	lease  string
}

const (
	// young is the age below which nothing is removed automatically, because somebody may be about to use it.
	young = time.Hour
	// nearlyFull and enoughFree are parts of the disk: if less than nearlyFull is free, images are removed, oldest
	// first, until enoughFree is free.
	nearlyFull, enoughFree = 10, 5
)

// Plan returns what is to be removed; it is pure. If no person asks (by is empty), it returns only what is removed
// automatically.
func Plan(have []Image, left []Leftover, need Need, free, size int64, now time.Time, by Reason) []Removal {
	var out []Removal
	needed := func(name string) bool { return need.Unsure || slices.Contains(need.Images, name) }
	old := func(t time.Time) bool { return now.Sub(t) > young } // after the clock was set back, it counts as young
	for _, l := range left {
		if !needed(l.Image) && (by != "" || old(l.Created)) {
			out = append(out, Removal{l.Image, false, l.Size, firstReason(by, TooOld), l.lease})
			free += l.Size
		}
	}
	if by == "" && free >= size/nearlyFull {
		return out
	}
	have = slices.SortedFunc(slices.Values(have), func(a, b Image) int { return a.Created.Compare(b.Created) })
	for _, i := range have {
		if needed(i.Name) || by == "" && (!old(i.Created) || free >= size/enoughFree) {
			continue
		}
		out = append(out, Removal{i.Name, true, i.Size, firstReason(by, DiskFull), ""})
		free += i.Size
	}
	return out
}

func firstReason(by, otherwise Reason) Reason {
	if by != "" {
		return by
	}
	return otherwise
}

// Prune plans and removes. With dry it only plans.
func (s *Store) Prune(ctx context.Context, need Need, by Reason, dry bool) ([]Removal, error) {
	have, left, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	free, size, err := s.Space()
	if err != nil {
		return nil, err
	}
	all := Plan(have, left, need, free, size, time.Now(), by)
	if dry {
		return all, nil
	}
	for n, r := range all {
		if err := s.remove(ctx, r); err != nil {
			return all[:n], err
		}
	}
	return all, nil
}

// ErrNeeded is the error of Remove for an image that must stay.
var ErrNeeded = errors.New("it is needed")

// Remove removes one image by its name, and the blobs that nothing else uses. The error wraps ErrNeeded or
// errdefs.ErrNotFound. With dry it only looks the image up.
func (s *Store) Remove(ctx context.Context, name string, need Need, dry bool) (Removal, error) {
	have, _, err := s.List(ctx)
	if err != nil {
		return Removal{}, err
	}
	at := slices.IndexFunc(have, func(i Image) bool { return i.Name == name })
	switch {
	case at < 0:
		return Removal{}, fmt.Errorf("container image %s: %w", name, errdefs.ErrNotFound)
	case need.Unsure || slices.Contains(need.Images, name):
		return Removal{}, fmt.Errorf("container image %s: %w", name, ErrNeeded)
	}
	r := Removal{Image: name, Pulled: true, Size: have[at].Size, Reason: Asked}
	if dry {
		return r, nil
	}
	return r, s.remove(ctx, r)
}

// remove removes one image, and the blobs that nothing else uses, before it returns.
func (s *Store) remove(ctx context.Context, r Removal) error {
	client, ctx, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if r.Pulled {
		err = client.ImageService().Delete(ctx, r.Image, images.SynchronousDelete())
	} else {
		err = client.LeasesService().Delete(ctx, leases.Lease{ID: r.lease}, leases.SynchronousDelete)
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove container image %s: %w", r.Image, err)
	}
	s.Log.Info("container image removed", "image", r.Image, "bytes", r.Size, "why", string(r.Reason))
	return nil
}

// MakeRoom removes images that no app needs, oldest first, until so many more bytes are free.
func (s *Store) MakeRoom(ctx context.Context, need Need, bytes int64) {
	have, left, err := s.List(ctx)
	if err != nil {
		return // the pull reports that there is no space
	}
	removed := int64(0)
	for _, r := range Plan(have, left, need, 0, math.MaxInt64, time.Now(), "") {
		if removed >= bytes {
			return
		}
		if err := s.remove(ctx, r); err != nil {
			s.Log.Warn("container image not removed", "image", r.Image, "error", err)
			return
		}
		removed += r.Size
	}
}

// SpaceIn returns a Space of the file system that holds dir.
func SpaceIn(dir string) func() (free, size int64, err error) {
	return func() (free, size int64, err error) {
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil {
			return 0, 0, fmt.Errorf("see how much is free in %s: %w", dir, err)
		}
		return int64(fs.Bavail) * fs.Bsize, int64(fs.Blocks) * fs.Bsize, nil
	}
}
