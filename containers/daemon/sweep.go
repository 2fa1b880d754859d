package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

const (
	// taskLimit limits the time of a change of a task. On a slow card, with full memory, a shim takes long to start.
	taskLimit = 2 * time.Minute
	// The first sweep follows firstSweep after a change; while something is left, sweeps are repeated, up to lastSweep
	// apart.
	firstSweep = 2 * time.Second
	lastSweep  = 5 * time.Minute
	// tasksDir is below root and state: a directory for each namespace, with one for each task.
	tasksDir = "io.containerd.runtime.v2.task"
	shimName = "containerd-shim-runc-v2"
	// shimMounts is below state: short-lived mounts of shims.
	shimMounts = "mounts"
)

// sweeper ends shims and processes without an owner: those of a container for which containerd has no task, because it
// was killed in the middle of a change; and those of a container that was deleted although its shim did not answer. It
// removes leftovers that would block a container of the same name.
type sweeper struct {
	c          Config
	tasks      runtime.PlatformRuntime
	containers containers.Store
	changing   sync.RWMutex // held for reading while a task is changed, so that no incomplete task is swept
	poked      chan struct{}
}

func newSweeper(p *plugged, c Config) (*sweeper, error) {
	s := &sweeper{c: c, poked: make(chan struct{}, 1)}
	for _, plugin := range p.started {
		instance, err := plugin.Instance()
		if err != nil {
			continue // tolerated
		}
		switch i := instance.(type) {
		case runtime.PlatformRuntime:
			s.tasks = i
		case *metadata.DB:
			s.containers = metadata.NewContainerStore(i)
		}
	}
	if s.tasks == nil || s.containers == nil {
		return nil, fmt.Errorf("find plugins %s, %s: not linked", plugins.RuntimePluginV2, plugins.MetadataPlugin)
	}
	return s, nil
}

// intercept completes a change of a task even if its client has gone. An interrupted change would leave a shim that
// containerd does not know, or a bundle that blocks the next start.
func (s *sweeper) intercept(ctx context.Context, req any, call *grpc.UnaryServerInfo,
	handler grpc.UnaryHandler) (any, error) {
	service, method := path.Split(strings.Trim(call.FullMethod, "/"))
	switch {
	case service == containersapi.Containers_ServiceDesc.ServiceName+"/" && method == "Delete":
		defer s.poke()
	case service == tasks.Tasks_ServiceDesc.ServiceName+"/" &&
		slices.Contains([]string{"Create", "Start", "Kill", "Delete"}, method):
		return complete(ctx, s, func(ctx context.Context) (any, error) { return handler(ctx, req) })
	}
	return handler(ctx, req)
}

// complete calls change with a context that does not end when its client goes, and has the sweeper look after a change
// that failed.
func complete[R any](ctx context.Context, s *sweeper, change func(context.Context) (R, error)) (R, error) {
	s.changing.RLock()
	defer s.changing.RUnlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), taskLimit)
	defer cancel()
	reply, err := change(ctx)
	if err != nil {
		s.poke()
	}
	return reply, err
}

func (s *sweeper) poke() {
	select {
	case s.poked <- struct{}{}:
	default: // a value waits already
	}
}

// run sweeps after changes until ctx is done.
func (s *sweeper) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.poked:
		}
		for delay := firstSweep; ; delay = min(2*delay, lastSweep) {
			timer := time.NewTimer(delay)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			if s.try(ctx) {
				break
			}
		}
	}
}

// try sweeps unless a task is being changed. It returns whether nothing is left.
func (s *sweeper) try(ctx context.Context) bool {
	if !s.changing.TryLock() {
		return false
	}
	defer s.changing.Unlock()
	clean, err := s.sweep(ctx)
	if err != nil {
		s.c.Log.Warn("leftovers of containers not cleared", "error", err)
	}
	return clean && err == nil
}

// owners is what containerd knows of tasks and containers.
type owners struct {
	tasks  map[string]bool // loaded
	owned  map[string]bool // those of them whose container exists
	groups map[string]bool // of owned tasks
	stray  map[string]bool // of tasks without a container
}

func (s *sweeper) owners(ctx context.Context) (owners, error) {
	o := owners{map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}}
	list, err := s.tasks.Tasks(ctx, true)
	if err != nil {
		return o, err
	}
	for _, t := range list {
		o.tasks[t.ID()] = true
		_, err := s.containers.Get(namespaces.WithNamespace(ctx, t.Namespace()), t.ID())
		switch {
		case err == nil:
			o.owned[t.ID()], o.groups[group(t.ID())] = true, true
		case errdefs.IsNotFound(err):
			o.stray[group(t.ID())] = true
		default:
			return o, err
		}
	}
	return o, nil
}

// group returns the app of a container: one shim serves a whole app.
func group(id string) string {
	app, _, _ := strings.Cut(id, ".")
	return app
}

// sweep ends and removes everything without an owner. It returns false if another sweep is needed afterwards.
func (s *sweeper) sweep(ctx context.Context) (clean bool, err error) {
	o, err := s.owners(ctx)
	if err != nil {
		return false, err
	}
	clean = true
	for pid, id := range s.shims() {
		if o.groups[group(id)] && !o.stray[group(id)] {
			continue
		}
		s.c.Log.Warn("shim without a container killed", "container", id, "pid", pid)
		_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
		clean = false                    // containerd removes its containers first
	}
	for _, dir := range s.cgroups() {
		if !o.owned[filepath.Base(dir)] {
			err := killGroup(dir)
			s.c.Log.Warn("cgroup without a container ended", "path", dir, "error", err)
			clean = clean && err == nil
		}
	}
	if !clean {
		return false, nil
	}
	return true, s.remove(o)
}

// shims are the ids that our shims were started for, by pid.
func (s *sweeper) shims() map[int]string {
	out := map[int]string{}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		if id := shimOf(strings.Split(strings.TrimRight(string(text), "\x00"), "\x00"), s.c.Socket); id != "" {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				out[pid] = id
			}
		}
	}
	return out
}

// shimOf returns the id from the command line of a shim that serves the containerd at socket. The short-lived
// helpers, whose last word is start or delete, are none.
func shimOf(args []string, socket string) string {
	option := func(name string) string {
		if i := slices.Index(args, "-"+name); i >= 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	if filepath.Base(args[0]) != shimName || option("address") != socket ||
		slices.Contains([]string{"start", "delete"}, args[len(args)-1]) {
		return ""
	}
	return option("id")
}

// cgroups are those of containers, with version 1 of cgroups below each controller.
func (s *sweeper) cgroups() (out []string) {
	if s.c.CgroupRoot == "" {
		return nil
	}
	for _, pattern := range []string{filepath.Join("/sys/fs/cgroup", s.c.CgroupRoot, "*.*"),
		filepath.Join("/sys/fs/cgroup/*", s.c.CgroupRoot, "*.*")} {
		found, _ := filepath.Glob(pattern) // only a malformed pattern fails
		for _, dir := range found {
			info, err := os.Stat(dir)
			var fs unix.Statfs_t
			if err != nil || !info.IsDir() || unix.Statfs(dir, &fs) != nil {
				continue
			}
			// A host with version 1 can have directories there that are no cgroups: crun makes them where nothing is
			// mounted.
			if fs.Type == unix.CGROUP2_SUPER_MAGIC || fs.Type == unix.CGROUP_SUPER_MAGIC {
				out = append(out, dir)
			}
		}
	}
	return out
}

// killGroup ends the processes of a cgroup and removes it, with those that were made below it. The error is that they
// have not gone yet.
func killGroup(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // what is gone needs nothing
	})
	for _, dir := range slices.Backward(dirs) { // innermost first
		text, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs")) // gone with its directory
		for line := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(line); err == nil && pid > 1 {
				_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
			}
		}
		if e := unix.Rmdir(dir); e != nil && !errors.Is(e, unix.ENOENT) {
			err = errors.Join(err, fmt.Errorf("remove cgroup %s: %w", dir, e))
		}
	}
	return err
}

// remove takes away the directories and sockets of tasks that containerd does not know.
func (s *sweeper) remove(o owners) error {
	var faults []error
	for _, pattern := range []string{
		// .cache is the runtime's own
		filepath.Join(s.c.State, tasksDir, "*", "*"), filepath.Join(s.c.Root, tasksDir, "*", "*"),
		filepath.Join(s.c.RuntimeRoot, "*", "[^.]*"),
	} {
		found, _ := filepath.Glob(pattern) // only a malformed pattern fails
		for _, dir := range found {
			if o.tasks[filepath.Base(dir)] {
				continue
			}
			s.c.Log.Info("directory without a container removed", "path", dir)
			faults = append(faults, removeBundle(dir))
		}
	}
	// No task is changed now: what is mounted there is of shims that were killed.
	mounts, _ := filepath.Glob(filepath.Join(s.c.State, shimMounts, "*"))
	for _, dir := range mounts {
		s.c.Log.Info("mount of a killed shim removed", "path", dir)
		err := mount.UnmountRecursive(dir, unix.MNT_DETACH)
		if err == nil { // never what is mounted there
			err = os.Remove(dir)
		}
		faults = append(faults, err)
	}
	sockets, _ := filepath.Glob(filepath.Join(s.c.State, "s", "*"))
	for _, socket := range sockets {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		} else if errors.Is(err, unix.ECONNREFUSED) {
			faults = append(faults, os.Remove(socket))
		}
	}
	return errors.Join(faults...)
}

func removeBundle(dir string) error {
	if err := mount.UnmountRecursive(filepath.Join(dir, "rootfs"), unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return os.RemoveAll(dir)
}

// clearHalfDeleted removes the directories that a killed daemon had begun to delete: renamed to a hidden name, they
// keep the next one from being deleted, and its container from being started.
func clearHalfDeleted(c Config, log *slog.Logger) {
	for _, top := range []string{c.State, c.Root} {
		found, _ := filepath.Glob(filepath.Join(top, tasksDir, "*", ".*")) // only a malformed pattern fails
		for _, dir := range found {
			if err := removeBundle(dir); err != nil {
				log.Warn("directory of a deleted task not removed", "path", dir, "error", err)
			}
		}
	}
}
