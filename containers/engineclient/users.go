package engineclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"resinos/containers/app"
)

// The numbers of users and groups that containers with users of their own have on the device. Each container has a
// block of numbers. On the device, these users own no file except those that the container has written into its own
// root.
const (
	firstUser  = 1 << 20
	usersEach  = 1 << 16
	beyondUser = 1 << 31
)

// labelUsers is the label with the first user of a container's block. The engine keeps the label as long as the
// container and its root, whose files belong to these users: the blocks in use are those of the existing containers.
const labelUsers = "resinos/first-user"

// users holds the blocks of containers that are being created and that the engine does not list yet.
type users struct {
	mu     sync.Mutex // guards making
	making map[string]uint32
}

// take finds a free block for a container. The caller calls drop when the engine has created the container or failed.
// list returns the engine's containers.
func (u *users) take(ctx context.Context, id string, list func(context.Context) ([]record, error)) (uint32, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	there, err := list(ctx)
	if err != nil {
		return 0, fmt.Errorf("list containers: %w", err)
	}
	taken := map[uint32]bool{}
	for _, r := range there {
		taken[usersOf(r)] = true
	}
	for _, first := range u.making {
		taken[first] = true
	}
	for first := uint32(firstUser); first < beyondUser; first += usersEach {
		if !taken[first] {
			if u.making == nil {
				u.making = map[string]uint32{}
			}
			u.making[id] = first
			return first, nil
		}
	}
	return 0, errors.New("userns_mode: all users of the device are taken: remove containers, or write" +
		" userns_mode: host")
}

func (u *users) drop(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.making, id)
}

// usersOf returns the first user of a container's block, 0 if the container uses the users of the device.
func usersOf(r record) uint32 {
	first, err := strconv.ParseUint(r.Labels[labelUsers], 10, 32)
	if err != nil {
		return 0 // the container has no such label
	}
	return uint32(first)
}

// mapping returns the block of users in the form of the kernel and the snapshotter; groups have the same numbers.
func mapping(first uint32) []specs.LinuxIDMapping {
	return []specs.LinuxIDMapping{{ContainerID: 0, HostID: first, Size: usersEach}}
}

// ownUsers takes a block of users for a container that is to have its own. The container sees the files of its image
// with their owners, and the first user of the block owns the pipes of its output. done releases what is only needed
// during the creation.
func (c *Containerd) ownUsers(ctx context.Context, want app.Container) (first uint32, done func(), err error) {
	if !want.OwnUsers {
		return 0, func() {}, nil
	}
	client, ctx := c.link(ctx)
	first, err = c.users.take(ctx, want.ID(), func(ctx context.Context) ([]record, error) {
		return client.ContainerService().List(ctx)
	})
	return first, func() { c.users.drop(want.ID()) }, err
}

// shifted makes the snapshotter shift the owners of the image's files to a block of users; without a block it does
// nothing.
func shifted(first uint32) []snapshots.Opt {
	if first == 0 {
		return nil
	}
	return []snapshots.Opt{containerd.WithUserNSRemapperLabels(mapping(first), mapping(first))}
}

func withUsers(first uint32) oci.SpecOpts {
	return oci.WithUserNamespace(mapping(first), mapping(first))
}

// plainFiles is a snapshotter that shows the files of images with the owners that they have in the image, because the
// manager reads them on the device and not as a user of the container.
type plainFiles struct{ snapshots.Snapshotter }

// Mounts returns the mounts without the mappings of owners.
func (p plainFiles) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	mounts, err := p.Snapshotter.Mounts(ctx, key)
	for i, m := range mounts {
		mounts[i].Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool {
			return strings.HasPrefix(o, "uidmap=") || strings.HasPrefix(o, "gidmap=")
		})
	}
	return mounts, err
}
