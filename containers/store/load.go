package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
)

// Normal returns the full name of an image for the name that people use, empty if it is no valid name.
func Normal(name string) string {
	ref, err := reference.ParseDockerRef(name)
	if err != nil {
		return ""
	}
	return ref.String()
}

// arriving is the prefix of the names that the engine gives to blobs of archives while it loads them.
const arriving = "tar-"

// Load loads the images in an archive: an OCI layout or what docker save writes, compressed or not. It returns their
// names. An image that is not for this device, or has no name, is an error, and nothing of it stays.
func (s *Store) Load(ctx context.Context, archive io.Reader) ([]string, error) {
	s.loading.Lock()
	defer s.loading.Unlock()
	client, ctx, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	if s.Marker != nil {
		defer s.Marker.Begin()()
	}
	if err := dropArriving(ctx, client); err != nil {
		return nil, err
	}
	plain, err := compression.DecompressStream(archive)
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	defer plain.Close() // only read
	found, err := client.Import(ctx, plain, containerd.WithImageRefTranslator(Normal),
		containerd.WithAllPlatforms(true), containerd.WithSkipMissing()) // unpack reports other platforms
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read archive: %w", err), dropArriving(ctx, client))
	}
	var names []string
	for _, i := range found {
		if err := s.unpack(ctx, client, i); err != nil {
			return nil, errors.Join(err, client.ImageService().Delete(ctx, i.Name))
		}
		names = append(names, i.Name)
	}
	if len(names) == 0 {
		return nil, errors.New("read archive: it names no image: save it by its name (docker save NAME:TAG)")
	}
	return names, nil
}

// dropArriving removes the incomplete blobs of an archive that a killed manager was loading: the engine would continue
// them, although the next archive has other files of the same names.
func dropArriving(ctx context.Context, client *containerd.Client) error {
	all, err := client.ContentStore().ListStatuses(ctx)
	if err != nil {
		return fmt.Errorf("list what is coming in: %w", err)
	}
	for _, status := range all {
		if !strings.HasPrefix(status.Ref, arriving) {
			continue
		}
		if err := client.ContentStore().Abort(ctx, status.Ref); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("drop %s: %w", status.Ref, err)
		}
	}
	return nil
}

// Unpack creates the snapshots of an existing image, as Load does.
func (s *Store) Unpack(ctx context.Context, name string) error {
	client, ctx, err := s.connect(ctx)
	if err != nil {
		return err
	}
	i, err := client.ImageService().Get(ctx, name)
	if err != nil {
		return fmt.Errorf("find container image %s: %w", name, err)
	}
	return s.unpack(ctx, client, i)
}

// unpack creates snapshots from the layers. The files reach the disk before containerd records the layers, so that
// after a power cut no recorded layer has empty files.
func (s *Store) unpack(ctx context.Context, client *containerd.Client, i images.Image) error {
	all, err := images.Platforms(ctx, client.ContentStore(), i.Target)
	if err != nil {
		return fmt.Errorf("container image %s: %w", i.Name, err)
	}
	fits, names := len(all) == 0, make([]string, len(all))
	for n, p := range all {
		fits = fits || s.Platform.Match(p)
		names[n] = platforms.Format(p)
	}
	if !fits {
		ours := platforms.Format(platforms.DefaultSpec())
		return fmt.Errorf("container image %s is for %s, and this device is %s: build it with --platform %s",
			i.Name, strings.Join(names, ", "), ours, ours)
	}
	image := containerd.NewImageWithPlatform(client, i, s.Platform)
	if err := image.Unpack(ctx, s.Snapshotter, containerd.WithUnpackApplyOpts(diff.WithSyncFs(true))); err != nil {
		return fmt.Errorf("unpack container image %s: %w", i.Name, err)
	}
	return nil
}
