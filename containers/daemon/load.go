package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"

	runtime "github.com/containerd/containerd/v2/core/runtime/v2"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc"
)

// plugged holds the running plugins.
type plugged struct {
	set     *plugin.Set
	started []*plugin.Plugin // in the order of their start
	api     *grpc.Server
	events  *ttrpc.Server
}

// load starts every linked plugin in the order of their needs. With an error it also returns the started plugins, which
// the caller closes.
func load(ctx context.Context, c Config) (*plugged, error) {
	registry.Register(collectorPlugin())
	p := &plugged{set: plugin.NewPluginSet()}
	for _, r := range registry.Graph(func(*plugin.Registration) bool { return false }) {
		ic := plugin.NewContext(ctx, p.set, map[string]string{
			plugins.PropertyRootDir:      filepath.Join(c.Root, r.URI()),
			plugins.PropertyStateDir:     filepath.Join(c.State, r.URI()),
			plugins.PropertyGRPCAddress:  c.Socket,
			plugins.PropertyTTRPCAddress: eventSocket(c),
		})
		ic.Config = settings(c, r)
		ic.RegisterReadiness = func() func() { return func() {} } // no linked plugin becomes ready later
		started := r.Init(ic)
		if err := p.set.Add(started); err != nil {
			return p, fmt.Errorf("load plugin %s: %w", r.URI(), err)
		}
		if _, err := started.Instance(); err != nil && !tolerated(r, err) {
			return p, fmt.Errorf("load plugin %s: %w", r.URI(), err)
		}
		p.started = append(p.started, started)
	}
	return p, nil
}

// tolerated reports whether a plugin is a snapshotter that the kernel or the file system does not support: there is
// another one.
func tolerated(r plugin.Registration, err error) bool {
	return r.Type == plugins.SnapshotPlugin || plugin.IsSkipPlugin(err)
}

// settings is the whole configuration; everything else keeps containerd's default.
func settings(c Config, r plugin.Registration) any {
	if s, ok := r.Config.(*runtime.ShimConfig); ok {
		s.SocketDir = filepath.Join(c.State, "s")
	}
	return r.Config
}

// close ends the plugins in reverse order.
func (p *plugged) close(log *slog.Logger) {
	for _, s := range slices.Backward(p.started) {
		instance, err := s.Instance()
		if err != nil {
			continue // the plugin never ran
		}
		if closer, ok := instance.(io.Closer); ok {
			if err := closer.Close(); err != nil {
				log.Warn("plugin not closed", "plugin", s.Registration.URI(), "error", err)
			}
		}
	}
}

// stop ends the listeners and all calls in them.
func (p *plugged) stop() {
	p.api.Stop()
	_ = p.events.Close() // the shims send their events again to the next daemon
}

// services passes every plugin that implements T to f.
func services[T any](p *plugged, f func(T) error) error {
	var errs []error
	for _, s := range p.started {
		instance, err := s.Instance()
		if err != nil {
			continue // tolerated above
		}
		if service, ok := instance.(T); ok {
			errs = append(errs, f(service))
		}
	}
	return errors.Join(errs...)
}
