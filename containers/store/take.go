package store

import (
	"context"
	"fmt"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker is the namespace of the engine in which Docker's daemon has its images (containers/docker).
const Docker = "moby"

// Take adds an image of Docker's daemon to the images of apps, under the same name. No blob is copied, because the
// engine stores each once for all namespaces; layers are unpacked again. If Take fails, an earlier image of this name
// stays. The error wraps errdefs.ErrNotFound if Docker has no such image.
func (s *Store) Take(ctx context.Context, name string) error {
	client, ctx, err := s.connect(ctx)
	if err != nil {
		return err
	}
	theirs := namespaces.WithNamespace(ctx, Docker)
	i, err := client.ImageService().Get(theirs, name)
	if err != nil {
		return fmt.Errorf("find container image %s of docker: %w", name, err)
	}
	if s.Marker != nil {
		defer s.Marker.Begin()()
	}
	ctx, done, err := client.WithLease(ctx) // until the image has a name, only the lease keeps its blobs
	if err != nil {
		return fmt.Errorf("take container image %s: %w", name, err)
	}
	defer done(context.WithoutCancel(ctx)) // a lease that is not removed expires after a day
	store := client.ContentStore()
	share := images.HandlerFunc(func(ctx context.Context, desc v1.Descriptor) ([]v1.Descriptor, error) {
		return nil, shareBlob(ctx, namespaces.WithNamespace(ctx, Docker), store, desc)
	})
	children := images.SetChildrenLabels(store, images.LimitManifests(
		images.FilterPlatforms(images.ChildrenHandler(store), s.Platform), s.Platform, 1))
	if err := images.Walk(ctx, images.Handlers(share, children), i.Target); err != nil {
		return fmt.Errorf("take container image %s: %w", name, err)
	}
	i.Labels = nil // they concern docker's daemon only
	if err := s.unpack(ctx, client, i); err != nil {
		return err
	}
	return called(ctx, client, i)
}

// shareBlob adds a blob of the namespace of from to that of ctx.
func shareBlob(ctx, from context.Context, store content.Store, desc v1.Descriptor) error {
	r, err := store.ReaderAt(from, desc)
	if err != nil {
		return err
	}
	defer r.Close() // only read
	return content.WriteBlob(ctx, store, "take-"+desc.Digest.String(), content.NewReader(r), desc)
}

// called gives an image its name, which another image may have now.
func called(ctx context.Context, client *containerd.Client, i images.Image) error {
	_, err := client.ImageService().Create(ctx, i)
	if errdefs.IsAlreadyExists(err) {
		_, err = client.ImageService().Update(ctx, i)
	}
	if err != nil {
		return fmt.Errorf("name container image %s: %w", i.Name, err)
	}
	return nil
}
