// Package daemon owns the containerd server of the device: which plugins are linked, how they are
// configured, when the server is ready. It never decides what runs: that is package workload's.
// There is no configuration file; read Config first, then load.
//
// containerd's own server package is not used: it brings cgroup v1, eBPF, D-Bus, templates and
// metrics along, of which nothing is needed here, and by reflection it keeps the linker from
// dropping methods. Measured: the engine is 17.5 MB instead of 25, which is less to unpack and to
// page in at every boot.
package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/version"

	"resinos/services/notify"
)

// Where the daemon lives on the device.
const (
	Root   = "/mnt/data/containerd"
	State  = "/run/containerd"
	Socket = "/run/containerd/containerd.sock"
	// RuntimeRoot is where the shim has the OCI runtime keep its state.
	RuntimeRoot = "/run/containerd/runtime"
)

// Config is all that differs between the device and a test.
type Config struct {
	// Root persists: content, snapshots, metadata. State is lost at power off.
	Root, State string
	// Socket is where containerd's API is served, for root only; the shims' events go to
	// Socket.ttrpc.
	Socket string
	// CgroupRoot is the parent of the containers' cgroups, RuntimeRoot the directory of the OCI runtime's state. What is there of
	// containers that have no task is ended.
	CgroupRoot, RuntimeRoot string
	Log                     *slog.Logger
	// Ready is called once the socket accepts; nil is allowed.
	Ready func() error
	// Alive is told that the server answers; nil: nobody watches.
	Alive *notify.Pulse
}

// Run serves containerd until ctx is done, then closes the server. Containers are children of
// their shims and live on. It fails when a plugin does not load, for all that are linked are needed.
func Run(ctx context.Context, c Config) error {
	bridgeLog(c.Log)
	_, err := os.Stat(filepath.Join(c.State, tasksDir))
	again := err == nil // not the first daemon since the device is up: the last one may have left something
	if err := makeFolders(c); err != nil {
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
	if again && !sweeper.try(ctx) { // before anybody can ask for a container of the same name
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
	c.Log.Info("containerd ready", "version", version.Version, "socket", c.Socket)
	if c.Ready != nil {
		if err := c.Ready(); err != nil {
			c.Log.Warn("readiness not delivered", "error", err)
		}
	}
	alive, err := watchOver(c)
	if err != nil {
		return err
	}
	defer alive.close()
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

// makeFolders makes the top folders: what persists is for root only, the state lets containers
// with mapped users through to their own.
func makeFolders(c Config) error {
	for dir, mode := range map[string]os.FileMode{c.Root: 0o700, c.State: 0o711,
		filepath.Join(c.State, shimMounts): 0o700} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("create directory of containerd: %w", err)
		}
	}
	return nil
}

// clearTemporaryMounts removes what a killed daemon left mounted while it unpacked an image.
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
