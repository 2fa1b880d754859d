package volume

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"resinos/containers/app"
)

// Mounts is the option that shows the container its volumes, what it binds of the device, and its configs and
// secrets. A volume that does not exist yet is created from the container image's content.
func (v Volumes) Mounts(want app.Container, snapshotter snapshots.Snapshotter) oci.SpecOpts {
	return func(ctx context.Context, _ oci.Client, r *containers.Container, s *specs.Spec) error {
		s.Mounts = addFeatures(s.Mounts, want, onDevice)
		for _, m := range want.Mounts {
			var source string
			var err error
			switch m.Type {
			case app.Volume:
				source = v.Path(want, m)
				if err = createVolume(ctx, source, m, snapshotter, r.SnapshotKey); err == nil && m.Subpath != "" {
					source, err = Part(source, m.Subpath)
				}
			case app.Bind:
				source, err = v.Bind(want, m)
			default:
				continue // memory
			}
			if err != nil {
				return err
			}
			shown := bind(source, m)
			if want.OwnUsers && (m.Type == app.Volume || v.own(want, source)) {
				shown.Options = append(shown.Options, ownersShown)
			}
			s.Mounts = append(s.Mounts, shown)
			propagate(s, m.Propagation)
		}
		for _, f := range want.Files {
			source, err := v.File(want, f)
			if err != nil {
				return err
			}
			shown := bind(source, app.Mount{Target: f.Target, ReadOnly: true})
			if want.OwnUsers {
				shown.Options = append(shown.Options, ownersShown)
			}
			s.Mounts = append(s.Mounts, shown)
		}
		return nil
	}
}

// ownersShown has the OCI runtime show a container with users of its own the owners that files have on the disk as its
// own users: what its root writes belongs to root there, and two containers share a volume as if both had the users of
// the device. What the device offers to all has no such view: /dev, /proc and /sys cannot.
const ownersShown = "idmap"

// propagate has the root of the container follow the device's mounts as far as one of its own mounts has to: below a
// private root none could.
func propagate(s *specs.Spec, propagation string) {
	switch {
	case strings.HasSuffix(propagation, "shared"):
		s.Linux.RootfsPropagation = "rshared"
	case strings.HasSuffix(propagation, "slave") && s.Linux.RootfsPropagation == "":
		s.Linux.RootfsPropagation = "rslave"
	}
}

func bind(source string, m app.Mount) specs.Mount {
	options := []string{"rbind", "rprivate", "rw"}
	if m.ReadOnly {
		options[2] = "ro"
	}
	if m.Propagation != "" {
		options[1] = m.Propagation
	}
	return specs.Mount{Type: "bind", Source: source, Destination: m.Target, Options: options}
}

// Part is the path of what a container sees of a volume. What is missing becomes a directory: nobody is at the device
// to make it. No link on the way is followed.
func Part(path, sub string) (string, error) {
	part := filepath.Join(path, sub)
	return part, inside(path, part, true)
}

// Check looks again, before each start, at what other containers can have changed since: a link in the place of a
// directory that the container binds could lead anywhere.
func (v Volumes) Check(want app.Container) error {
	for _, m := range want.Mounts {
		var err error
		switch {
		case m.Type == app.Volume && m.Subpath != "":
			_, err = Part(v.Path(want, m), m.Subpath)
		case m.Type == app.Bind:
			_, err = v.Bind(want, m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func createVolume(ctx context.Context, path string, m app.Mount, snapshotter snapshots.Snapshotter, key string) error {
	if there, err := Exists(path); err != nil || there {
		return err
	}
	if m.NoCopy || m.Subpath != "" { // what the image has there is no content of the whole volume

		return Create(path, "", "")
	}
	mounts, err := snapshotter.Mounts(ctx, key)
	if err != nil {
		return fmt.Errorf("create volume %s: %w", path, err)
	}
	return mount.WithReadonlyTempMount(ctx, mounts, func(root string) error { return Create(path, root, m.Target) })
}
