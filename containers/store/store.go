// Package store owns the container images in the engine: it lists them, loads them from archives, removes those that no
// app needs, and checks them after a power cut. It never fetches an image (package pull does), and never decides which
// images are needed (package workload does). Read Store first, then Plan.
package store

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"resinos/containers/pull"
)

// Store holds the engine's images.
type Store struct {
	// Client returns the connection to the engine, as pull.Config has it.
	Client func(context.Context) (*containerd.Client, context.Context)
	// Snapshotter is the snapshotter for unpacked images; Platform matches the platforms that the device can run.
	Snapshotter string
	Platform    platforms.MatchComparer
	// Space returns the free bytes and the size of the file system with the images.
	Space func() (free, size int64, err error)
	// Marker records that archives are being loaded; may be nil.
	Marker *Marker
	Log    *slog.Logger

	loading sync.Mutex // one archive at a time, because the engine names incomplete blobs by the names in the archive
}

// Image is one name and its image.
type Image struct {
	Name    string    `json:"name"`
	Digest  string    `json:"digest"`
	Size    int64     `json:"size"`    // on the disk; a layer of several images counts for each
	Created time.Time `json:"created"` // or of its last pull, even if that changed nothing
}

// Leftover is the part of an incomplete image that a pull has fetched.
type Leftover struct {
	Image   string    `json:"image"`
	Size    int64     `json:"size"`
	Created time.Time `json:"created"`
	lease   string
}

func (s *Store) connect(ctx context.Context) (*containerd.Client, context.Context, error) {
	client, ctx := s.Client(ctx)
	if client == nil {
		return nil, ctx, fmt.Errorf("look at container images: %w", errdefs.ErrUnavailable)
	}
	return client, ctx, nil
}

// List returns the images and the incomplete ones, each sorted by name.
func (s *Store) List(ctx context.Context) ([]Image, []Leftover, error) {
	client, ctx, err := s.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	found, err := client.ImageService().List(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("list container images: %w", err)
	}
	whole := map[digest.Digest]bool{}
	var out []Image
	for _, i := range found {
		size := s.sizeOf(ctx, client, i, whole)
		out = append(out, Image{Name: i.Name, Digest: i.Target.Digest.String(), Size: size, Created: i.UpdatedAt})
	}
	slices.SortFunc(out, func(a, b Image) int { return strings.Compare(a.Name, b.Name) })
	left, err := leftovers(ctx, client, whole)
	return out, left, err
}

// Came returns when each existing image was loaded, or pulled last.
func (s *Store) Came(ctx context.Context) (map[string]time.Time, error) {
	client, ctx, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	found, err := client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list container images: %w", err)
	}
	out := map[string]time.Time{}
	for _, i := range found {
		out[i.Name] = i.UpdatedAt
	}
	return out, nil
}

// sizeOf adds up the existing blobs and unpacked layers of an image. It adds the blobs to whole.
func (s *Store) sizeOf(ctx context.Context, client *containerd.Client, i images.Image,
	whole map[digest.Digest]bool) int64 {
	var size int64
	seen := map[digest.Digest]bool{}
	store := client.ContentStore()
	handler := images.HandlerFunc(func(ctx context.Context, desc v1.Descriptor) ([]v1.Descriptor, error) {
		if seen[desc.Digest] {
			return nil, images.ErrSkipDesc
		}
		seen[desc.Digest] = true
		info, err := store.Info(ctx, desc.Digest)
		if err != nil {
			return nil, images.ErrSkipDesc // for another platform, or removed because it was damaged
		}
		size += info.Size
		whole[desc.Digest] = true
		return images.Children(ctx, store, desc)
	})
	_ = images.Walk(ctx, handler, i.Target) // blobs that cannot be read are not counted
	for _, chain := range chainsOf(ctx, client, i, s.Platform) {
		if usage, err := client.SnapshotService(s.Snapshotter).Usage(ctx, chain); err == nil {
			size += usage.Size
		}
	}
	return size
}

// chainsOf returns the names of an image's unpacked layers, none if its configuration cannot be read.
func chainsOf(ctx context.Context, c *containerd.Client, i images.Image, p platforms.MatchComparer) (out []string) {
	ids, err := i.RootFS(ctx, c.ContentStore(), p)
	if err != nil {
		return nil
	}
	for _, id := range identity.ChainIDs(ids) {
		out = append(out, id.String())
	}
	return out
}

// leftovers returns the leases of pulls. Blobs that belong to images are not counted.
func leftovers(ctx context.Context, client *containerd.Client, whole map[digest.Digest]bool) ([]Leftover, error) {
	held, err := client.LeasesService().List(ctx, "labels.\""+pull.LeaseLabel+"\"")
	if err != nil {
		return nil, fmt.Errorf("list leases: %w", err)
	}
	var out []Leftover
	for _, l := range held {
		left := Leftover{Image: l.Labels[pull.LeaseLabel], Created: l.CreatedAt, lease: l.ID}
		resources, err := client.LeasesService().ListResources(ctx, l)
		if err != nil && !errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("list what %s holds: %w", l.ID, err)
		}
		for _, r := range resources {
			left.Size += heldSize(ctx, client, r, whole)
		}
		out = append(out, left)
	}
	slices.SortFunc(out, func(a, b Leftover) int { return strings.Compare(a.Image, b.Image) })
	return out, nil
}

func heldSize(ctx context.Context, client *containerd.Client, r leases.Resource, whole map[digest.Digest]bool) int64 {
	kind, snapshotter, _ := strings.Cut(r.Type, "/")
	switch kind {
	case "ingests":
		if status, err := client.ContentStore().Status(ctx, r.ID); err == nil {
			return status.Offset
		}
	case "content":
		if whole[digest.Digest(r.ID)] {
			return 0
		}
		if info, err := client.ContentStore().Info(ctx, digest.Digest(r.ID)); err == nil {
			return info.Size
		}
	case "snapshots":
		if usage, err := client.SnapshotService(snapshotter).Usage(ctx, r.ID); err == nil {
			return usage.Size
		}
	}
	return 0
}
