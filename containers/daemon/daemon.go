// Package daemon owns the containerd server of the device: which plugins are linked, how they are configured, when the
// server is ready. Package workload decides which containers run. There is no configuration file; read Config first,
// then load.
//
// containerd's own server package is not used: it links cgroup v1, eBPF, D-Bus, templates and metrics, none of which is
// needed here, and because of its reflection the linker cannot drop methods. Measured: the engine has 17.5 MB instead
// of 25, which is less to unpack and to page in at every boot.
package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/version"

	"resinos/services/notify"
)

// The paths of the daemon on the device.
const (
	Root   = "/mnt/data/containerd"
	State  = "/run/containerd"
	Socket = "/run/containerd/containerd.sock"
	// RuntimeRoot is the directory of the OCI runtime's state.
	RuntimeRoot = "/run/containerd/runtime"
)

// Config holds everything that differs between the device and a test.
type Config struct {
	// Root persists: content, snapshots, metadata. State is lost at power off.
	Root, State string
	// Socket is the socket of containerd's API, for root only; the shims send their events to Socket.ttrpc.
	Socket string
	// CgroupRoot is the parent of the containers' cgroups, RuntimeRoot the directory of the OCI runtime's state. What a
	// container without a task has left there is ended.
	CgroupRoot, RuntimeRoot string
	Log                     *slog.Logger
	// Inside is called, before Ready, with what a client in this process calls the server with; nil is allowed.
	Inside func(containerd.Opt)
	// Ready is called once the socket accepts; nil is allowed.
	Ready func() error
	// Alive gets a beat while the server answers and Well finds nothing; nil: there is no watchdog.
	Alive *notify.Pulse
	// Well returns what is wrong with the rest of this process; nil: there is none.
	Well func() error
}

// Run serves containerd until ctx is done, then closes the server. Containers are children of their shims and keep
// running. Run fails if a plugin does not load, because all linked ones are needed.
func Run(ctx context.Context, c Config) error {
	bridgeLog(c.Log)
	_, err := os.Stat(filepath.Join(c.State, tasksDir))
	again := err == nil // not the first daemon of this boot: an earlier one may have left something
	if err := makeDirectories(c); err != nil {
		return err
	}
	if err := clearTemporaryMounts(c); err != nil {
		return err
	}
	// Shims put images there while they mount them for containers with users of their own, and sweeper clears it.
	if err := os.Setenv("TMPDIR", filepath.Join(c.State, shimMounts)); err != nil {
		return fmt.Errorf("name the shims' temporary directory: %w", err)
	}
	clearHalfDeleted(c, c.Log)
	loaded, err := load(ctx, c)
	defer loaded.close(c.Log)
	if err != nil {
		return err
	}
	sweeper, err := newSweeper(loaded, c)
	if err != nil {
		return err
	}
	if again && !sweeper.try(ctx) { // before a client can create a container of the same name
		sweeper.poke()
	}
	var swept sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer swept.Wait()
	defer cancel()
	swept.Go(func() { sweeper.run(ctx) })
	failed, err := serve(loaded, sweeper, c)
	if err != nil {
		return err
	}
	defer loaded.stop()
	if c.Inside != nil {
		client, err := inside(loaded, sweeper)
		if err != nil {
			return err
		}
		c.Inside(client)
	}
	c.Log.Info("containerd ready", "version", version.Version, "socket", c.Socket)
	if c.Ready != nil {
		if err := c.Ready(); err != nil {
			c.Log.Warn("readiness not delivered", "error", err)
		}
	}
	alive, err := watchOver(c, loaded)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return fmt.Errorf("serve %s: %w", c.Socket, err)
		case <-time.After(alive.left()):
			alive.beat(ctx)
		}
	}
}

// makeDirectories creates the top directories: the persistent one is for root only; containers with mapped users can
// pass through the one of the state to their own directories.
func makeDirectories(c Config) error {
	for dir, mode := range map[string]os.FileMode{c.Root: 0o700, c.State: 0o711,
		filepath.Join(c.State, shimMounts): 0o700} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("create directory of containerd: %w", err)
		}
	}
	return nil
}

// clearTemporaryMounts unmounts what a killed daemon had mounted to unpack an image.
func clearTemporaryMounts(c Config) error {
	if err := mount.SetTempMountLocation(filepath.Join(c.Root, "tmpmounts")); err != nil {
		return fmt.Errorf("create directory of temporary mounts: %w", err)
	}
	warnings, err := mount.CleanupTempMounts(0)
	if err != nil {
		c.Log.Warn("temporary mounts not cleared", "error", err)
	}
	for _, w := range warnings {
		c.Log.Warn("temporary mount not cleared", "error", w)
	}
	return nil
}
