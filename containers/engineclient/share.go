package engineclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"resinos/containers/app"
)

// joined returns the pid of each container whose namespaces this one uses.
type joined map[string]int

func (j joined) String() string {
	var out []string
	for id, pid := range j {
		out = append(out, id+"="+strconv.Itoa(pid))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func parseJoined(label string) map[string]int {
	if label == "" {
		return nil
	}
	out := map[string]int{}
	for _, pair := range strings.Fields(label) {
		id, text, _ := strings.Cut(pair, "=")
		out[id], _ = strconv.Atoi(text) // 0, which no container has, if it is no number
	}
	return out
}

// joinable are the namespaces that can be shared: their names in the OCI specification and in /proc/PID/ns.
var joinable = map[string]struct {
	kind specs.LinuxNamespaceType
	file string
}{
	string(specs.NetworkNamespace): {specs.NetworkNamespace, "net"},
	string(specs.PIDNamespace):     {specs.PIDNamespace, "pid"},
	string(specs.IPCNamespace):     {specs.IPCNamespace, "ipc"},
}

// join makes the next task of the container use namespaces of running containers, and records the owners in a label.
func (c *Containerd) join(ctx context.Context, want app.Container) (joined, error) {
	if len(want.Joins) == 0 {
		return nil, nil
	}
	client, ctx := c.link(ctx)
	r, err := client.ContainerService().Get(ctx, want.ID())
	if err != nil {
		return nil, fmt.Errorf("read container: %w", err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(r.Spec.GetValue(), &spec); err != nil {
		return nil, fmt.Errorf("read specification of %s: %w", want.ID(), err)
	}
	out := joined{}
	for namespace := range want.Joins {
		other := want.Joined(namespace)
		if out[other], err = c.running(ctx, other); err != nil {
			return nil, err
		}
		n := joinable[namespace]
		path := fmt.Sprintf("/proc/%d/ns/%s", out[other], n.file)
		_ = oci.WithLinuxNamespace(specs.LinuxNamespace{Type: n.kind, Path: path})(ctx, nil, nil, &spec) // never fails
	}
	text, err := typeurl.MarshalAny(&spec)
	if err != nil {
		return nil, err
	}
	_, err = client.ContainerService().Update(ctx, record{ID: want.ID(), Spec: text,
		Labels: map[string]string{labelJoins: out.String()}}, "spec", "labels."+labelJoins)
	if err != nil {
		return nil, fmt.Errorf("keep specification of %s: %w", want.ID(), err)
	}
	return out, nil
}

// stillJoined checks whether the owner of a namespace has ended while the namespace was being joined: another process
// could have got its pid by then.
func (c *Containerd) stillJoined(ctx context.Context, j joined) error {
	for id, pid := range j {
		if now, err := c.running(ctx, id); err != nil || now != pid {
			return fmt.Errorf("%s, whose namespaces it uses, was started again meanwhile", id)
		}
	}
	return nil
}

// running returns the pid of a running container.
func (c *Containerd) running(ctx context.Context, id string) (int, error) {
	client, ctx := c.link(ctx)
	reply, err := client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil {
		return 0, fmt.Errorf("find %s, whose namespaces it uses: %w", id, errgrpc.ToNative(err))
	}
	if reply.Process.Status != tasktypes.Status_RUNNING {
		return 0, fmt.Errorf("%s, whose namespaces it uses, does not run", id)
	}
	return int(reply.Process.Pid), nil
}

const shmTarget, shmSize = "/dev/shm", 64 << 20 // docker's

// sharedShm binds the /dev/shm that a container offers together with its IPC namespace, because programs that share
// memory also use files there.
func (c *Containerd) sharedShm(want app.Container) []oci.SpecOpts {
	owner := want.Joined(string(specs.IPCNamespace))
	if want.IPC == "shareable" {
		owner = want.ID()
	}
	if owner == "" {
		return nil
	}
	return []oci.SpecOpts{func(_ context.Context, _ oci.Client, _ *record, s *specs.Spec) error {
		i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == shmTarget })
		if i >= 0 && s.Mounts[i].Type == "shm" || i >= 0 && s.Mounts[i].Type == "tmpfs" {
			s.Mounts[i] = specs.Mount{Type: "bind", Source: filepath.Join(c.Shm, owner), Destination: shmTarget,
				Options: []string{"bind", "rw", "nosuid", "nodev", "noexec"}}
		}
		return nil
	}}
}

// offerShm creates the /dev/shm that a container offers, empty at each of its starts.
func (c *Containerd) offerShm(want app.Container) error {
	if want.IPC != "shareable" {
		return nil
	}
	if err := c.dropShm(want.ID()); err != nil {
		return err
	}
	size := want.Resources.ShmSize
	if size == 0 {
		size = shmSize
	}
	path := filepath.Join(c.Shm, want.ID())
	err := os.MkdirAll(path, 0o755)
	if err == nil {
		err = unix.Mount("shm", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC,
			fmt.Sprintf("mode=1777,size=%d", size))
	}
	if err != nil {
		return fmt.Errorf("mount shared memory of %s: %w", want.ID(), err)
	}
	return nil
}

// dropShm removes it. Containers that still use it keep it.
func (c *Containerd) dropShm(id string) error {
	path := filepath.Join(c.Shm, id)
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // nothing is mounted any more
		}
		if err != nil {
			return fmt.Errorf("unmount shared memory of %s: %w", id, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove shared memory of %s: %w", id, err)
	}
	return nil
}

// withoutWeight removes the weight of a container's disk accesses if the kernel has no scheduler that supports it, as
// docker does. Otherwise the OCI runtime would not start the container.
func (c *Containerd) withoutWeight(want app.Container) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *record, s *specs.Spec) error {
		if want.Resources.BlkioWeight == 0 || knowsWeight(cgroupMount) {
			return nil
		}
		c.Log.Warn("blkio_config.weight left out, the kernel's schedulers know none", "container", want.ID())
		s.Linux.Resources.BlockIO = nil
		return nil
	}
}

// knowsWeight looks for the file of the weight, which every cgroup v2 except the root has if the kernel supports it.
func knowsWeight(mount string) bool {
	if _, err := os.Stat(filepath.Join(mount, "cgroup.controllers")); err != nil {
		return true // cgroup v1: crun decides
	}
	for _, file := range []string{"io.bfq.weight", "io.weight"} {
		if found, err := filepath.Glob(filepath.Join(mount, "*", file)); err == nil && len(found) > 0 {
			return true
		}
	}
	return false
}
