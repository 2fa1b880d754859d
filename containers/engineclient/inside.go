package engineclient

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/runtime-spec/specs-go"

	"resinos/containers/appcontrol"
	"resinos/containers/inside"
	"resinos/containers/plan"
)

// Inside returns the description of a running container, and the pid of its program.
func (c *Containerd) Inside(ctx context.Context, id string) (specs.Spec, int, error) {
	client, ctx := c.link(ctx)
	var spec specs.Spec
	r, err := client.ContainerService().Get(ctx, id)
	if err == nil {
		err = json.Unmarshal(r.Spec.GetValue(), &spec)
	}
	if err != nil {
		return spec, 0, fmt.Errorf("read container %s: %w", id, err)
	}
	reply, err := client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil {
		return spec, 0, fmt.Errorf("find the program of %s: %w", id, errgrpc.ToNative(err))
	}
	return spec, int(reply.Process.Pid), nil
}

// Inner returns the settings with which programs are run inside containers.
func (c *Containerd) Inner() inside.Runtime {
	// containerd's shim adds the namespace
	return inside.Runtime{Path: c.Runtime, Root: filepath.Join(c.RuntimeRoot, Namespace)}
}

// UserIn looks up a user in the files of a container below root, with the groups that its app adds (want may be nil).
func UserIn(root, name string, want *plan.Want) (*specs.User, error) {
	var groups []string
	if want != nil {
		groups = want.Groups
	}
	u, err := findUser(root, name, groups)
	if err != nil {
		return nil, fmt.Errorf("find user %q: %w", name, err)
	}
	return &u, nil
}

// Describe fills in what the engine knows of a container.
func (c *Containerd) Describe(ctx context.Context, to *appcontrol.Container) error {
	client, ctx := c.link(ctx)
	r, err := client.ContainerService().Get(ctx, to.ID)
	if err != nil {
		return fmt.Errorf("read container %s: %w", to.ID, err)
	}
	to.Labels, to.Image, to.ImageDigest, to.Snapshot = r.Labels, r.Image, r.Labels[labelImage], r.SnapshotKey
	to.Created, to.Spec = r.CreatedAt.UTC().Format(time.RFC3339), r.Spec.GetValue()
	// without a task it has no pid
	if reply, err := client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: to.ID}); err == nil {
		to.PID = int(reply.Process.Pid)
	}
	return nil
}
