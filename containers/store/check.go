package store

import (
	"context"
	"fmt"
	"io"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"resinos/containers/pull"
)

// checkedLabel marks each blob that was compared with its digest after an interrupted write.
const checkedLabel = "resinos/checked"

// Check compares every blob that it has not compared before with its digest. It runs after an interrupted write,
// because the last bytes before a power cut may be wrong although the engine has recorded the blob. Check removes
// damaged blobs and their images, which are then pulled or imported again; only the damaged blobs are fetched. Existing
// containers keep running. Check returns the number of damaged blobs.
func (s *Store) Check(ctx context.Context) (damaged int, err error) {
	client, ctx, err := s.connect(ctx)
	if err != nil {
		return 0, err
	}
	var all []content.Info
	err = client.ContentStore().Walk(ctx, func(i content.Info) error {
		if i.Labels[checkedLabel] == "" {
			all = append(all, i)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("list blobs: %w", err)
	}
	for _, info := range all {
		whole, err := isWhole(ctx, client, info)
		if err != nil {
			return damaged, err
		}
		if whole {
			info.Labels = map[string]string{checkedLabel: "yes"}
			_, err = client.ContentStore().Update(ctx, info, "labels."+checkedLabel)
		} else {
			damaged++
			s.Log.Error("blob of a container image damaged, fetching it again", "digest", info.Digest.String())
			err = s.discard(ctx, client, info.Digest)
		}
		if err != nil && !errdefs.IsNotFound(err) {
			return damaged, fmt.Errorf("check blob %s: %w", info.Digest, err)
		}
	}
	return damaged, nil
}

// isWhole reads a blob. A blob that cannot be read counts as damaged, unless the engine does not answer.
func isWhole(ctx context.Context, client *containerd.Client, info content.Info) (bool, error) {
	r, err := client.ContentStore().ReaderAt(ctx, v1.Descriptor{Digest: info.Digest, Size: info.Size})
	if err != nil {
		if errdefs.IsUnavailable(err) || ctx.Err() != nil {
			return false, fmt.Errorf("read blob %s: %w", info.Digest, err)
		}
		return false, nil
	}
	defer r.Close() // only read
	verifier := info.Digest.Verifier()
	_, err = io.Copy(verifier, content.NewReader(r))
	if errdefs.IsUnavailable(err) || ctx.Err() != nil {
		return false, fmt.Errorf("read blob %s: %w", info.Digest, err)
	}
	return err == nil && verifier.Verified(), nil
}

// discard removes a blob and its images, and their unpacked layers unless a container uses them. The other blobs stay
// for the next pull of these images.
func (s *Store) discard(ctx context.Context, client *containerd.Client, d digest.Digest) error {
	found, err := client.ImageService().List(ctx)
	if err != nil {
		return err
	}
	for _, i := range found {
		parts := partsOf(ctx, client, i)
		if _, ok := parts[d]; !ok {
			continue
		}
		if err := keep(ctx, client, i, parts, d); err != nil {
			return err
		}
		err := client.ImageService().Delete(ctx, i.Name, images.SynchronousDelete())
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return client.ContentStore().Delete(ctx, d)
}

// partsOf returns the blobs of an image, as far as they can be read.
func partsOf(ctx context.Context, client *containerd.Client, i images.Image) map[digest.Digest]v1.Descriptor {
	out := map[digest.Digest]v1.Descriptor{}
	handler := images.HandlerFunc(func(ctx context.Context, desc v1.Descriptor) ([]v1.Descriptor, error) {
		out[desc.Digest] = desc
		children, err := images.Children(ctx, client.ContentStore(), desc)
		if err != nil {
			return nil, images.ErrSkipDesc
		}
		return children, nil
	})
	_ = images.Walk(ctx, handler, i.Target) // the handler never fails
	return out
}

// keep adds the layers of an image, except one blob, to the lease of its pull.
func keep(ctx context.Context, client *containerd.Client, i images.Image, parts map[digest.Digest]v1.Descriptor,
	but digest.Digest) error {
	lease, err := pull.Hold(ctx, client, i.Name)
	if err != nil {
		return err
	}
	for d, desc := range parts {
		if _, err := client.ContentStore().Info(ctx, d); err != nil || d == but || !images.IsLayerType(desc.MediaType) {
			continue // it is for another platform; or it is a configuration, which would keep the unpacked layers
		}
		err := client.LeasesService().AddResource(ctx, lease, leases.Resource{Type: "content", ID: d.String()})
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return nil
}
