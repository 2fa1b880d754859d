package engineclient

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/moby/sys/signal"
	"golang.org/x/sys/unix"

	"resinos/containers/app"
	"resinos/containers/plan"
	"resinos/containers/restart"
	"resinos/containers/stopsignal"
	"resinos/services/log/pipe"
)

const (
	// killWait limits the wait for the end of a killed program. A program in an uninterruptible state may take longer;
	// the step is then tried again.
	killWait = 10 * time.Second
	// silentLimit is how long a shim that is to stop its container may take to answer.
	silentLimit = 10 * time.Second
)

// Start removes what an earlier start left and runs the container's program. The shim gets the paths of the log pipes
// and copies the output into them; no output passes through the manager.
//
// It calls containerd's task service directly: the client library reads the container three more times, and each read
// delays the first output.
func (c *Containerd) Start(ctx context.Context, want app.Container) error {
	id := want.ID()
	var paths [2]string
	for i, stream := range []string{pipe.Stdout, pipe.Stderr} {
		source := pipe.Source{Kind: pipe.Container, Name: id, Stream: stream}
		// The shim opens a pipe for writing before it opens it for reading too, and would wait for ever without a
		// reader. The manager therefore holds the pipe open until the shim has it. This comes first, because a shim may
		// already wait for a reader since an earlier manager was killed here; until it has one, it answers no request.
		f, err := pipe.Open(c.LogDir, source)
		if err != nil {
			return err
		}
		defer f.Close() // nothing was written
		paths[i] = pipe.Path(c.LogDir, source)
	}
	if err := c.Volumes.Check(want); err != nil {
		return err
	}
	bridged := want.Network == app.NetworkBridge
	if bridged {
		if err := c.Networks.Ready(id); err != nil {
			return err
		}
	}
	client, ctx := c.link(ctx)
	mounts, err := client.SnapshotService(c.Snapshotter).Mounts(ctx, id)
	if err != nil {
		return fmt.Errorf("find root file system of %s: %w", id, err)
	}
	request := &tasks.CreateTaskRequest{ContainerID: id, Stdout: paths[0], Stderr: paths[1],
		Rootfs: mount.ToProto(mounts), Terminal: want.TTY}
	if want.TTY {
		request.Stderr = "" // a terminal has one output
	}
	if want.StdinOpen {
		if request.Stdin, err = c.openInput(id); err != nil {
			return err
		}
	}
	if err := c.offerShm(want); err != nil {
		return err
	}
	joined, err := c.join(ctx, want)
	if err != nil {
		return err
	}
	made, err := c.createTask(ctx, want.App, request)
	if errdefs.IsAlreadyExists(err) { // rare; a check before each start would wait for the other starts
		if _, err := c.Reap(ctx, id); err != nil {
			return err
		}
		made, err = c.createTask(ctx, want.App, request)
	}
	if err != nil {
		return fmt.Errorf("create task: %w", err)
	}
	if err := c.stillJoined(ctx, joined); err != nil {
		return err // the next start clears the task away
	}
	if bridged { // its program has not begun, so it never sees an incomplete network
		if err := c.Networks.Attach(id, int(made.Pid)); err != nil {
			return err // the next start clears the task away
		}
	}
	if _, err := client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: id}); err != nil {
		return fmt.Errorf("start task: %w", errgrpc.ToNative(err))
	}
	return nil
}

// input is the path of the pipe that is the standard input of a container.
func (c *Containerd) input(id string) string { return filepath.Join(c.Inputs, id) }

// openInput creates the pipe of a container's input. The shim holds both ends: a read of the container blocks, and
// never returns the end of the file.
func (c *Containerd) openInput(id string) (string, error) {
	path := c.input(id)
	if err := os.MkdirAll(c.Inputs, 0o700); err != nil {
		return "", fmt.Errorf("make the input of %s: %w", id, err)
	}
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
		return "", fmt.Errorf("make the input of %s: %w", id, err)
	}
	return path, nil
}

func (c *Containerd) createTask(ctx context.Context, app string, r *tasks.CreateTaskRequest) (*tasks.CreateTaskResponse,
	error) {
	client, ctx := c.link(ctx)
	defer c.shims.create(ctx, app)()
	made, err := client.TaskService().Create(ctx, r)
	return made, errgrpc.ToNative(err)
}

// Reap removes a task that has ended or never began, and kills one whose start was interrupted. Without a task it does
// nothing.
func (c *Containerd) Reap(ctx context.Context, id string) (uint32, error) {
	reply, err := c.deleteTask(ctx, id)
	if errdefs.IsNotFound(err) {
		return 0, nil
	}
	if errdefs.IsFailedPrecondition(err) { // still there
		return c.Stop(ctx, id, 0)
	}
	if err != nil {
		return 0, fmt.Errorf("clear task of %s: %w", id, err)
	}
	return reply.ExitStatus, nil
}

// Stop stops the container's program, first by its stop signal if the program handles it, after grace by SIGKILL, and
// removes the task. If the shim does not answer, Stop returns nevertheless: the engine ends shims whose container is
// deleted.
func (c *Containerd) Stop(ctx context.Context, id string, grace time.Duration) (uint32, error) {
	process, err := c.process(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("stop %s: %w", id, err)
	}
	if process == nil {
		return restart.LostStatus, nil
	}
	ctx, cancel := context.WithTimeout(ctx, grace+3*killWait) // the shim may stop answering now
	defer cancel()
	if process.Status == tasktypes.Status_RUNNING && grace > 0 {
		sig := c.stopSignal(ctx, id)
		if stopsignal.Handled(int(process.Pid), sig) {
			if err := c.kill(ctx, id, sig, false); err != nil {
				return 0, err
			}
			c.waitEnd(ctx, id, grace)
		}
	}
	if process.Status != tasktypes.Status_STOPPED {
		if err := c.kill(ctx, id, syscall.SIGKILL, true); err != nil {
			return 0, err
		}
		c.waitEnd(ctx, id, killWait)
	}
	ended, err := c.deleteTask(ctx, id)
	switch {
	case errdefs.IsNotFound(err):
		return restart.LostStatus, nil
	case err != nil:
		return 0, fmt.Errorf("clear task of %s: %w", id, err)
	}
	return ended.ExitStatus, nil
}

// deleteTask makes the shim delete an ended task.
//
// If an earlier deletion was interrupted after crun had removed its state directory, each further one fails: the shim
// recognises only runc's error for a missing container. With an empty state directory crun reports no error.
func (c *Containerd) deleteTask(ctx context.Context, id string) (*tasks.DeleteResponse, error) {
	client, ctx := c.link(ctx)
	app, _, _ := strings.Cut(id, ".")
	defer c.shims.delete(ctx, app)()
	reply, err := client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	state := filepath.Join(c.RuntimeRoot, Namespace, id)
	if err == nil || !strings.Contains(err.Error(), state) || c.RuntimeRoot == "" {
		return reply, errgrpc.ToNative(err)
	}
	if os.Mkdir(state, 0o700) != nil { // the directory exists, so the fault is another one
		return nil, errgrpc.ToNative(err)
	}
	reply, err = client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	return reply, errgrpc.ToNative(err)
}

// process returns the container's program, or nil if it has none or its shim does not answer in time.
func (c *Containerd) process(ctx context.Context, id string) (*tasktypes.Process, error) {
	client, ctx := c.link(ctx)
	for end := time.Now().Add(silentLimit); ; pause(ctx, restart.FirstDelay) {
		reply, err := client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
		err = errgrpc.ToNative(err)
		switch silent := errdefs.IsDeadlineExceeded(err) || err == nil &&
			taskOf(reply.Process.Status) == plan.Unknown; {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errdefs.IsNotFound(err), silent && time.Now().After(end):
			return nil, nil
		case silent:
		case err != nil:
			return nil, err
		default:
			return reply.Process, nil
		}
	}
}

func (c *Containerd) stopSignal(ctx context.Context, id string) syscall.Signal {
	client, ctx := c.link(ctx)
	record, err := client.ContainerService().Get(ctx, id)
	if err != nil {
		return syscall.SIGTERM
	}
	sig, err := signal.ParseSignal(record.Labels[labelStop])
	if err != nil {
		return syscall.SIGTERM
	}
	return sig
}

// kill sends sig. It is no error if the program has ended.
func (c *Containerd) kill(ctx context.Context, id string, sig syscall.Signal, all bool) error {
	client, ctx := c.link(ctx)
	_, err := client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(sig), All: all})
	err = errgrpc.ToNative(err)
	if err == nil || errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) {
		return nil
	}
	return fmt.Errorf("send %v to %s: %w", sig, id, err)
}

// waitEnd waits until the program has ended or d is over; the caller finds out which.
func (c *Containerd) waitEnd(ctx context.Context, id string, d time.Duration) {
	client, ctx := c.link(ctx)
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	_, _ = client.TaskService().Wait(ctx, &tasks.WaitRequest{ContainerID: id})
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
