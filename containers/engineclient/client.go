// Package engineclient owns the manager's requests to the engine: it lists containers, tasks and images, and creates,
// starts, stops and removes them. It decides nothing; containers/plan does. Read Containerd first.
package engineclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"

	"resinos/containers/network"
	"resinos/containers/plan"
	"resinos/containers/store"
	"resinos/containers/volume"
	"resinos/mounts/plainfile"
)

// Containerd is the Engine of the device: a client of the containerd in this process.
type Containerd struct {
	// Ready gives once, when that can be called, what a client calls it with.
	Ready       <-chan containerd.Opt
	Snapshotter string // overlayfs; native if the kernel has no overlayfs
	LogDir      string // directory of the log pipes
	Runtime     string // path of the OCI runtime, crun
	RuntimeRoot string // directory of its state; empty: one below containerd's state
	Init        string // path of the first process of containers with Init
	Shm         string // directory of the memory that containers with ipc: shareable offer to others
	Inputs      string // directory of the pipes that containers with StdinOpen read
	Resolv      string // bound to /etc/resolv.conf of containers on the host network; empty: none
	Hosts       string // likewise /etc/hosts
	Networks    *network.Networks
	Store       *store.Store
	Volumes     volume.Volumes
	CgroupRoot  string // parent of the containers' cgroups
	Log         *slog.Logger

	shims shims
	users users
	leave func() // ends the channel of Connect

	mu     sync.Mutex // guards client
	client *containerd.Client
}

// Namespace is the engine's namespace for the containers of apps.
const Namespace = "resinos"

// CgroupRoot is the parent of the containers' cgroups on the device.
const CgroupRoot = "/resinos/containers"

// The labels by which the manager recognises a container.
const (
	labelApp   = "resinos/app"
	labelWish  = "resinos/wish"
	labelImage = "resinos/image-digest"
	labelHold  = "resinos/hold" // the container has Hold
	labelGrace = "resinos/stop-grace"
	labelStop  = "resinos/stop-signal"
	labelNeeds = "resinos/depends-on" // services, with a space between them
	labelJoins = "resinos/joined"     // CONTAINER=PID of those whose namespaces it uses, with a space between them
	labelMark  = "resinos/"           // and the name of a mark
)

var errNotConnected = errors.New("the engine has not started yet")

const runtimeName = "io.containerd.runc.v2"

// Connect waits until containerd can be called. A later call ends the channel of the one before.
func (c *Containerd) Connect(ctx context.Context) (<-chan struct{}, error) {
	client, err := c.connected(ctx)
	if err != nil {
		return nil, err
	}
	if c.leave != nil {
		c.leave()
	}
	ctx, c.leave = context.WithCancel(ctx)
	events, errs := client.Subscribe(ctx, `topic~="/tasks/(exit|oom|delete|paused|resumed)"`)
	changes := make(chan struct{}, 1)
	go func() {
		defer close(changes)
		for {
			select {
			case <-events:
				select {
				case changes <- struct{}{}:
				default: // one waits already, which is enough
				}
			case <-errs:
				return
			}
		}
	}()
	return changes, nil
}

// connected returns the client, and waits for it at the first call.
func (c *Containerd) connected(ctx context.Context) (*containerd.Client, error) {
	if client, _ := c.link(ctx); client != nil {
		return client, nil
	}
	var inside containerd.Opt
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case inside = <-c.Ready:
	}
	client, err := containerd.New("", inside,
		containerd.WithDefaultNamespace(Namespace), containerd.WithDefaultRuntime(runtimeName))
	if err != nil {
		return nil, fmt.Errorf("connect to the engine: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.client = client
	return client, nil
}

func (c *Containerd) link(ctx context.Context) (*containerd.Client, context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client, namespaces.WithNamespace(ctx, Namespace)
}

// Client returns the client of the engine, nil before Connect, and ctx with Namespace.
func (c *Containerd) Client(ctx context.Context) (*containerd.Client, context.Context) {
	return c.link(ctx)
}

// Observe lists containers, tasks and images.
func (c *Containerd) Observe(ctx context.Context, started func(id string) bool) (plan.State, error) {
	client, ctx := c.link(ctx)
	s := plan.State{Containers: map[string]plan.Have{}, Images: map[string]string{}}
	if client == nil { // the device goes down before the engine has started
		return s, errNotConnected
	}
	list, err := client.ContainerService().List(ctx)
	if err != nil {
		return s, fmt.Errorf("list containers: %w", err)
	}
	for _, r := range list {
		// a label that does not parse means no time to end; Create wrote it
		grace, _ := time.ParseDuration(r.Labels[labelGrace])
		s.Containers[r.ID] = plan.Have{
			App: r.Labels[labelApp], Wish: r.Labels[labelWish],
			ImageName: r.Image, ImageDigest: r.Labels[labelImage], StopGrace: grace,
			Passing:    r.Labels[labelHold] != "",
			StaysEnded: r.Labels[labelMark+string(plan.StaysEnded)], Held: r.Labels[labelMark+string(plan.Held)],
			Depends: strings.Fields(r.Labels[labelNeeds]), Check: checkOf(r), Joined: parseJoined(r.Labels[labelJoins]),
		}
	}
	reply, err := client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return s, fmt.Errorf("list tasks: %w", err)
	}
	for _, t := range reply.Tasks {
		if have, ok := s.Containers[t.ID]; ok {
			have.Task, have.Status, have.Kills = taskOf(t.Status), t.ExitStatus, c.kills(t.ID)
			have.PID, have.Paused = int(t.Pid), t.Status == tasktypes.Status_PAUSED ||
				t.Status == tasktypes.Status_PAUSING
			s.Containers[t.ID] = have
		}
	}
	for id, have := range s.Containers {
		// containerd leaves tasks out of the list whose shim does not answer within two seconds.
		if have.Task == plan.NoTask && started(id) && !c.without(ctx, id) {
			have.Task = plan.Unknown
			s.Containers[id] = have
		}
	}
	found, err := client.ImageService().List(ctx)
	if err != nil {
		return s, fmt.Errorf("list container images: %w", err)
	}
	for _, i := range found {
		s.Images[i.Name] = i.Target.Digest.String()
	}
	return s, nil
}

func taskOf(status tasktypes.Status) plan.Task {
	switch status {
	case tasktypes.Status_STOPPED:
		return plan.Stopped
	case tasktypes.Status_RUNNING, tasktypes.Status_PAUSED, tasktypes.Status_PAUSING:
		return plan.Running
	case tasktypes.Status_CREATED:
		return plan.Created
	}
	return plan.Unknown
}

// without reports whether containerd knows that the container has no task.
func (c *Containerd) without(ctx context.Context, id string) bool {
	client, ctx := c.link(ctx)
	_, err := client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	return errdefs.IsNotFound(errgrpc.ToNative(err))
}

// Import loads the images of a preloaded file into containerd and unpacks the wanted one.
func (c *Containerd) Import(ctx context.Context, p plan.Preload) error {
	f, err := plainfile.Open(p.Path)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	if _, err := c.Store.Load(ctx, f); err != nil {
		return fmt.Errorf("import %s: %w", p.Path, err)
	}
	return nil
}

// Note sets a label on the container. containerd writes it to the disk, and removes it with the container.
func (c *Containerd) Note(ctx context.Context, id string, mark plan.Mark, value string) error {
	client, ctx := c.link(ctx)
	label := labelMark + string(mark)
	_, err := client.ContainerService().Update(ctx, record{ID: id, Labels: map[string]string{label: value}},
		"labels."+label)
	if err != nil {
		return fmt.Errorf("label container: %w", err)
	}
	return nil
}

// Delete removes the container and its root file system.
func (c *Containerd) Delete(ctx context.Context, id string) error {
	client, ctx := c.link(ctx)
	if err := os.Remove(c.input(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete container: %w", err)
	}
	if err := c.dropShm(id); err != nil {
		return err
	}
	container, err := client.LoadContainer(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err == nil {
		err = container.Delete(ctx, containerd.WithSnapshotCleanup)
	}
	return err
}
