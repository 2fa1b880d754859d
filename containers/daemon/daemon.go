// Package daemon owns the containerd server of the device: which plugins are linked, how they are
// configured, when the server is ready. It never decides what runs: that is package workload's.
// There is no configuration file; read Config first, then settings.
package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/containerd/containerd/v2/cmd/containerd/server"
	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/version"
)

// Where the daemon lives on the device.
const (
	Root   = "/mnt/data/containerd"
	State  = "/run/containerd"
	Socket = "/run/containerd/containerd.sock"
)

// Config is all that differs between the device and a test.
type Config struct {
	// Root persists: content, snapshots, metadata. State is lost at power off.
	Root, State string
	// Socket is where containerd's API is served, for root only.
	Socket string
	Log    *slog.Logger
	// Ready is called once the socket accepts; nil is allowed.
	Ready func() error
}

// Run serves containerd until ctx is done, then closes the server. Containers are children of
// their shims and live on. It fails when a plugin that we need does not load.
func Run(ctx context.Context, c Config) error {
	bridgeLog(c.Log)
	conf := settings(c)
	if err := server.CreateTopLevelDirectories(conf); err != nil {
		return fmt.Errorf("create folders of containerd: %w", err)
	}
	if err := clearTemporaryMounts(c); err != nil {
		return err
	}
	srv, err := server.New(ctx, conf)
	if err != nil {
		return fmt.Errorf("load containerd: %w", err)
	}
	defer srv.Stop()
	if err := srv.Start(ctx); err != nil {
		return fmt.Errorf("serve %s: %w", c.Socket, err)
	}
	srv.Wait()
	c.Log.Info("containerd ready", "version", version.Version, "socket", c.Socket)
	if c.Ready != nil {
		if err := c.Ready(); err != nil {
			c.Log.Warn("readiness not delivered", "error", err)
		}
	}
	<-ctx.Done()
	return nil
}

// clearTemporaryMounts removes what a killed daemon left mounted while it unpacked an image.
func clearTemporaryMounts(c Config) error {
	if err := mount.SetTempMountLocation(filepath.Join(c.Root, "tmpmounts")); err != nil {
		return fmt.Errorf("create folder of temporary mounts: %w", err)
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

// settings is the whole configuration of the server; what is not named keeps containerd's default.
func settings(c Config) *srvconfig.Config {
	return &srvconfig.Config{
		Version: version.ConfigVersion,
		Root:    c.Root,
		State:   c.State,
		RequiredPlugins: []string{
			"io.containerd.runtime.v2.task",
			"io.containerd.grpc.v1.tasks",
			"io.containerd.grpc.v1.containers",
			"io.containerd.server.v1.grpc",
		},
		Plugins: map[string]any{
			"io.containerd.server.v1.grpc":   map[string]any{"address": c.Socket},
			"io.containerd.server.v1.ttrpc":  map[string]any{"address": c.Socket + ".ttrpc"},
			"io.containerd.shim.v1.manager":  map[string]any{"socket_dir": filepath.Join(c.State, "s")},
			"io.containerd.gc.v1.scheduler":  map[string]any{"startup_delay": "30s", "schedule_delay": "1s"},
			"io.containerd.metadata.v1.bolt": map[string]any{"content_sharing_policy": "shared"},
		},
	}
}
