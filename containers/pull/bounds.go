package pull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"resinos/containers/fetcher"
)

// Limits on an image. A size that a registry states is used only to refuse an image.
const (
	// maxDocument limits the size of manifests, indexes and configurations, which are read into memory.
	maxDocument = 4 << 20
	// maxLayers is the limit of overlayfs and docker.
	maxLayers = 127
	// maxNamed limits the number of platforms that a fault lists.
	maxNamed = 6
)

// admit refuses a blob that cannot be part of an image for this device.
func admit(desc v1.Descriptor) error {
	switch {
	case desc.Size < 0 || desc.Digest.Validate() != nil:
		return fault{Unfit, fmt.Errorf("the registry reports a blob of %d bytes, digest %q", desc.Size, desc.Digest)}
	case !images.IsLayerType(desc.MediaType) && desc.Size > maxDocument:
		return fault{Unfit, fmt.Errorf("a %s of %d bytes is larger than %d", desc.MediaType, desc.Size, maxDocument)}
	}
	return nil
}

// room refuses an image that would fill the disk. It counts the bytes to fetch twice: containerd unpacks while it
// fetches, and the unpacked files take at least as much again.
func (a *attempt) room(ctx context.Context, children []v1.Descriptor) error {
	var need int64
	n := 0
	for _, c := range children {
		if !images.IsLayerType(c.MediaType) {
			continue
		}
		n++
		if err := admit(c); err != nil {
			return err
		}
		_, err := a.client.ContentStore().Info(ctx, c.Digest)
		if errdefs.IsNotFound(err) {
			need += c.Size
		}
	}
	if n > maxLayers {
		return fault{Unfit, fmt.Errorf("the container image has %d layers, and %d can be stacked", n, maxLayers)}
	}
	free, err := a.c.Free()
	if err != nil {
		return err
	}
	if err = enough(need, free); err == nil || a.c.MakeRoom == nil {
		return err
	}
	a.c.MakeRoom(ctx, 2*need+keepFree-free)
	if free, err = a.c.Free(); err != nil {
		return err
	}
	return enough(need, free)
}

// keepFree is the free space that a pull leaves on the disk.
const keepFree = 32 << 20

func enough(need, free int64) error {
	if need == 0 || 2*need+keepFree <= free {
		return nil
	}
	return fault{NoSpace, fmt.Errorf("%s are to be fetched, twice that is wanted, and %s are free: "+
		"remove apps or images (osctl prune)", megabytes(need), megabytes(free))}
}

func megabytes(n int64) string { return fmt.Sprintf("%d MB", (n+999_999)/1_000_000) }

// platformOf reads the platform of an image from its configuration.
func platformOf(config []byte) (v1.Platform, error) {
	var p v1.Platform
	err := json.Unmarshal(config, &p)
	return platforms.Normalize(p), err
}

// platformsOf lists the platforms for which an index has images.
func platformsOf(index []byte) string {
	var i v1.Index
	if err := json.Unmarshal(index, &i); err != nil {
		return "nothing that can be read"
	}
	var out []string
	for _, m := range i.Manifests {
		if m.Platform == nil || m.Platform.OS == "unknown" {
			continue // attestations, which are no images
		}
		if p := platforms.Format(platforms.Normalize(*m.Platform)); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return "no platform"
	}
	if len(out) > maxNamed {
		out = append(out[:maxNamed], "others")
	}
	return strings.Join(out, ", ")
}

// fault is an error with its cause, which decides when the next attempt is made.
type fault struct {
	Cause Cause
	err   error
}

// Error returns the text of the error.
func (f fault) Error() string { return f.err.Error() }

// Unwrap returns the error.
func (f fault) Unwrap() error { return f.err }

// said returns the text of an error without the prefixes that packages have added to it, for people.
func said(err error) error {
	var f fault
	var failure fetcher.Failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &failure):
		return failure
	}
	return err
}

var errNoEngine = errors.New("the engine is not there")
