// Package pull pulls container images from a registry into the engine's store: it decides which image is pulled now and
// when a failed pull is tried again, and reports the progress. The bytes come from a fetcher, a process without rights
// (package fetcher), and are accepted only if their digests are right. Package workload decides which images are
// wanted. Read Pulls first, then attempt.
//
//	wanted images ─ Pulls ─ attempt ─ containerd's client ─ containerd's store
//	                  │        └───── fetcher ── registry
//	                  └ Status: bytes of each layer, the last fault, when the next try is
package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"resinos/containers/fetcher"
)

// attempt is one try to pull one image. What it has fetched stays under a lease for the next one.
type attempt struct {
	c      Config
	client *containerd.Client
	image  string
	layers *semaphore.Weighted // limits the blobs that all attempts together fetch at once
	tally  *tally
	source *fetcher.Process
}

// run returns when the image is there and unpacked.
func (a *attempt) run(ctx context.Context) error {
	ctx, err := a.hold(ctx)
	if err != nil {
		return err
	}
	a.source, err = fetcher.Start(a.c.Fetcher(a.image))
	if err != nil {
		return err
	}
	defer a.source.Close()
	defer context.AfterFunc(ctx, a.source.Close)()
	// The files reach the disk before containerd records the layers, so that after a power cut no recorded layer has
	// empty files.
	synced := []containerd.UnpackOpt{containerd.WithUnpackApplyOpts(diff.WithSyncFs(true))}
	_, err = a.client.Pull(ctx, a.image, containerd.WithResolver(a), containerd.WithPlatformMatcher(a.c.Platform),
		containerd.WithPullUnpack, containerd.WithPullSnapshotter(a.c.Snapshotter), containerd.WithUnpackOpts(synced),
		containerd.WithImageHandlerWrapper(a.watch))
	if err != nil {
		return err
	}
	err = a.client.LeasesService().Delete(ctx, leases.Lease{ID: leaseOf(a.image)})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// hold creates or finds the lease that keeps fetched bytes beyond this attempt, the manager, and a power cut.
func (a *attempt) hold(ctx context.Context) (context.Context, error) {
	lease, err := Hold(ctx, a.client, a.image)
	return leases.WithLease(ctx, lease.ID), err
}

// Hold creates or finds the lease of an image's pull.
func Hold(ctx context.Context, client *containerd.Client, image string) (leases.Lease, error) {
	id := leaseOf(image)
	_, err := client.LeasesService().Create(ctx, leases.WithID(id), leases.WithLabel(LeaseLabel, image))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return leases.Lease{}, fmt.Errorf("hold what is fetched: %w", err)
	}
	return leases.Lease{ID: id}, nil
}

// LeaseLabel is on each lease of a pull, and names its image.
const LeaseLabel = "resinos/pull"

func leaseOf(image string) string { return "resinos-pull-" + digest.FromString(image).Encoded()[:20] }

// watch wraps containerd's handler of a blob. Before the handler it refuses blobs that exceed the limits; after the
// handler it discards bytes that cannot be part of the blob.
func (a *attempt) watch(h images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, desc v1.Descriptor) ([]v1.Descriptor, error) {
		if err := admit(desc); err != nil {
			return nil, err
		}
		a.tally.begin(desc)
		children, err := h.Handle(ctx, desc)
		if err != nil {
			return children, a.judge(ctx, desc, err)
		}
		a.tally.finish(desc)
		switch {
		case images.IsManifestType(desc.MediaType):
			err = a.room(ctx, children)
		case images.IsConfigType(desc.MediaType):
			err = a.fits(ctx, desc)
		}
		return children, err
	})
}

// judge decides, after a blob has failed, whether its fetched bytes can be used. If not, the next attempt fetches the
// blob from the beginning.
func (a *attempt) judge(ctx context.Context, desc v1.Descriptor, err error) error {
	var failure fetcher.Failure
	isFailure := errors.As(err, &failure)
	wrong := errdefs.IsFailedPrecondition(err) && !isFailure // the digest, or more bytes than there should be
	if images.IsIndexType(desc.MediaType) && errdefs.IsNotFound(err) && !isFailure {
		return a.unfit(ctx, desc)
	}
	if !wrong && !(isFailure && failure.Cause == fetcher.NoRange) {
		return err
	}
	// an error does not matter, because the next attempt checks again; a committed or dropped ingest is gone already
	abort := a.client.ContentStore().Abort(ctx, remotes.MakeRefKey(ctx, desc))
	if abort != nil && !errdefs.IsNotFound(abort) {
		err = errors.Join(err, abort)
	}
	if wrong && !a.tally.resumed(desc.Digest) {
		return fault{Lied, fmt.Errorf("the registry sends other bytes than it promised as %s: %w", desc.Digest, err)}
	}
	return fault{Again, err}
}

// Resolve is part of remotes.Resolver.
func (a *attempt) Resolve(ctx context.Context, ref string) (string, v1.Descriptor, error) {
	name, found, err := a.source.Resolve(ctx)
	return name, v1.Descriptor{MediaType: found.MediaType, Digest: found.Digest, Size: found.Size}, err
}

// Fetcher is part of remotes.Resolver.
func (a *attempt) Fetcher(context.Context, string) (remotes.Fetcher, error) { return a, nil }

// Pusher is part of remotes.Resolver; devices push nothing.
func (a *attempt) Pusher(context.Context, string) (remotes.Pusher, error) {
	return nil, fmt.Errorf("push: %w", errdefs.ErrNotImplemented)
}

// Fetch is part of remotes.Fetcher. The reader sends a request to the fetcher at its first read, from the offset that
// Seek has set.
func (a *attempt) Fetch(ctx context.Context, desc v1.Descriptor) (io.ReadCloser, error) {
	if err := a.layers.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return &blob{ctx: ctx, a: a, desc: desc, done: sync.OnceFunc(func() { a.layers.Release(1) })}, nil
}

// blob reads one blob from an offset that can be chosen before the first read.
type blob struct {
	ctx    context.Context // of the handler that reads: its end interrupts a blocked read
	a      *attempt
	desc   v1.Descriptor
	offset int64
	from   io.ReadCloser
	unhook func() bool
	done   func()
}

// Seek sets the offset of the next read.
func (b *blob) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart {
		return 0, errors.ErrUnsupported
	}
	b.shut()
	b.offset = offset
	return offset, nil
}

// Read reads from the current offset.
func (b *blob) Read(buf []byte) (int, error) {
	if b.from == nil {
		r, err := b.a.source.Open(fetcher.Blob{MediaType: b.desc.MediaType, Digest: b.desc.Digest, Size: b.desc.Size},
			b.offset)
		if err != nil {
			return 0, err
		}
		b.from, b.unhook = r, context.AfterFunc(b.ctx, func() { _ = r.Close() })
		b.a.tally.from(b.desc.Digest, b.offset)
	}
	n, err := b.from.Read(buf)
	b.offset += int64(n)
	b.a.tally.at(b.desc.Digest, b.offset, n)
	return n, err
}

// Close ends the request at any offset.
func (b *blob) Close() error {
	b.shut()
	b.done()
	return nil
}

func (b *blob) shut() {
	if b.from != nil {
		b.unhook()
		_ = b.from.Close() // the fetcher notices that its output is closed
		b.from = nil
	}
}

// fits refuses an image for another architecture before its layers are fetched.
func (a *attempt) fits(ctx context.Context, config v1.Descriptor) error {
	text, err := content.ReadBlob(ctx, a.client.ContentStore(), config)
	if err != nil {
		return err
	}
	p, err := platformOf(text)
	if err != nil {
		return fault{Unfit, fmt.Errorf("configuration of the container image: %w", err)}
	}
	if p.Architecture != "" && !a.c.Platform.Match(p) {
		return a.notFor(platforms.Format(p))
	}
	return nil
}

// unfit returns the fault of an image that has nothing for this device, with its platforms.
func (a *attempt) unfit(ctx context.Context, index v1.Descriptor) error {
	text, err := content.ReadBlob(ctx, a.client.ContentStore(), index)
	if err != nil {
		return err
	}
	return a.notFor(platformsOf(text))
}

func (a *attempt) notFor(what string) error {
	ours := platforms.Format(platforms.DefaultSpec())
	return fault{Unfit, fmt.Errorf("the container image is for %s, and this device is %s: "+
		"build and push it with --platform %s", what, ours, ours)}
}
