// Command shim is containerd's shim for runc, one process per app: parent of the app's containers,
// keeper of their output pipes and exit statuses. Nothing here decides anything: see
// containerd's pkg/shim. Its file name on the device must stay containerd-shim-runc-v2.
package main

import (
	"context"
	"runtime"
	"time"

	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task/plugin" // registers the task service
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"

	"resinos/services/footprint"
)

const (
	// rushLimit is the memory from which on the shim collects garbage during its start, in bytes: a collection costs
	// the app's first container more time than the memory is worth.
	rushLimit = 24 << 20
	// restAfter is how long after its start it collects garbage as containerd's shim does.
	restAfter = 20 * time.Second
	// restPercent is what containerd's shim sets before its plugins start.
	restPercent = 40
)

// A plugin, since the shim has plugins only in its long life, and they start after it has set up the collector.
func init() {
	registry.Register(&plugin.Registration{Type: plugins.InternalPlugin, ID: "heap",
		InitFn: func(ic *plugin.InitContext) (any, error) {
			return footprint.Rush(ic.Context, rushLimit, footprint.Rest{After: restAfter, Percent: restPercent}), nil
		}})
}

func main() {
	// containerd's start helper asks for 4; one costs 20 % less memory and no time (measured).
	runtime.GOMAXPROCS(1)
	shim.RunShim(context.Background(), manager.NewShimManager("io.containerd.runc.v2"))
}
