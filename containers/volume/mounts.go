package volume

import (
	"context"
	"fmt"

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
				err = createVolume(ctx, source, m, snapshotter, r.SnapshotKey)
			case app.Bind:
				source, err = v.Bind(want, m)
			default:
				continue // memory
			}
			if err != nil {
				return err
			}
			s.Mounts = append(s.Mounts, bind(source, m))
		}
		for _, f := range want.Files {
			source, err := v.File(want, f)
			if err != nil {
				return err
			}
			s.Mounts = append(s.Mounts, bind(source, app.Mount{Target: f.Target, ReadOnly: true}))
		}
		return nil
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

func createVolume(ctx context.Context, path string, m app.Mount, snapshotter snapshots.Snapshotter, key string) error {
	if m.Subpath != "" {
		return fmt.Errorf("volumes: subpath of %s is not carried out: remove it", m.Target)
	}
	if there, err := Exists(path); err != nil || there {
		return err
	}
	if m.NoCopy {
		return Create(path, "", "")
	}
	mounts, err := snapshotter.Mounts(ctx, key)
	if err != nil {
		return fmt.Errorf("create volume %s: %w", path, err)
	}
	return mount.WithReadonlyTempMount(ctx, mounts, func(root string) error { return Create(path, root, m.Target) })
}
