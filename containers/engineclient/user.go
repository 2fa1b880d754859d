package engineclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	"resinos/mounts/plainfile"
)

// withUser sets user, group and further groups by the container's own /etc/passwd and /etc/group. containerd's function
// for this would link a template engine.
func withUser(name string, groups []string, snapshotter snapshots.Snapshotter) oci.SpecOpts {
	return func(ctx context.Context, _ oci.Client, c *record, s *specs.Spec) error {
		mounts, err := snapshotter.Mounts(ctx, c.SnapshotKey)
		if err != nil {
			return fmt.Errorf("find user %q: %w", name, err)
		}
		err = mount.WithReadonlyTempMount(ctx, mounts, func(root string) error {
			s.Process.User, err = findUser(root, name, groups)
			return err
		})
		if err != nil {
			return fmt.Errorf("find user %q: %w", name, err)
		}
		return nil
	}
}

// findUser reads the files below root, and follows no symlink out of root.
func findUser(root, name string, groups []string) (specs.User, error) {
	passwd, err := readInside(root, "etc/passwd")
	if err != nil {
		return specs.User{}, err
	}
	group, err := readInside(root, "etc/group")
	if err != nil {
		return specs.User{}, err
	}
	u, err := user.GetExecUser(name, nil, passwd, group)
	if err != nil {
		return specs.User{}, err
	}
	further, err := furtherGroups(root, groups)
	if err != nil {
		return specs.User{}, err
	}
	u.Sgids = append(u.Sgids, further...)
	for _, id := range append([]int{u.Uid, u.Gid}, u.Sgids...) {
		if id < 0 || id > maxID { // for the kernel -1 means "unchanged", which is root
			return specs.User{}, fmt.Errorf("%d in the container's passwd or group is not a number from 0 to %d", id,
				maxID)
		}
	}
	out := specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid)}
	for _, gid := range append([]int{u.Gid}, u.Sgids...) {
		out.AdditionalGids = append(out.AdditionalGids, uint32(gid))
	}
	return out, nil
}

// furtherGroups are the numbers of the groups that the app adds, by the container's own /etc/group.
func furtherGroups(root string, names []string) ([]int, error) {
	if len(names) == 0 {
		return nil, nil
	}
	group, err := readInside(root, "etc/group")
	if err != nil {
		return nil, err
	}
	return user.GetAdditionalGroups(names, group)
}

// maxID is the largest number of a user or a group that is accepted.
const maxID = 1<<31 - 1

// maxAccounts limits the size of /etc/passwd and /etc/group.
const maxAccounts = 4 << 20

// readInside returns a file below root, empty if there is none.
func readInside(root, name string) (io.Reader, error) {
	f, err := plainfile.OpenIn(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return new(bytes.Reader), nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	data, err := plainfile.ReadAll(f, maxAccounts)
	return bytes.NewReader(data), err
}
