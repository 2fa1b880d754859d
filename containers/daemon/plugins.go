package daemon

// The plugins that are linked, and so loaded: each registers itself when its package starts.
// Not here on purpose: CRI, NRI, sandboxes, transfer, streaming (the client of package workload
// pulls and imports by itself), image verifiers, debug and metrics listeners, the restart monitor
// (package workload restarts), cgroup metrics (the shim reports memory kills by itself), the mount
// manager (overlays need no help). The collector and the two listeners are ours: collector.go,
// serve.go.
import (
	_ "github.com/containerd/containerd/api/types/runc/options"              // makes the runtime options decodable
	_ "github.com/containerd/containerd/v2/core/runtime/v2"                  // shims and tasks
	_ "github.com/containerd/containerd/v2/plugins/content/local/plugin"     // blobs on disk
	_ "github.com/containerd/containerd/v2/plugins/diff/walking/plugin"      // layers to directories
	_ "github.com/containerd/containerd/v2/plugins/events"                   // the exchange
	_ "github.com/containerd/containerd/v2/plugins/leases"                   // keeps what is being made
	_ "github.com/containerd/containerd/v2/plugins/metadata"                 // bbolt
	_ "github.com/containerd/containerd/v2/plugins/services/containers"      //
	_ "github.com/containerd/containerd/v2/plugins/services/content"         //
	_ "github.com/containerd/containerd/v2/plugins/services/diff"            //
	_ "github.com/containerd/containerd/v2/plugins/services/events"          //
	_ "github.com/containerd/containerd/v2/plugins/services/healthcheck"     // asked by Docker's daemon
	_ "github.com/containerd/containerd/v2/plugins/services/images"          //
	_ "github.com/containerd/containerd/v2/plugins/services/introspection"   //
	_ "github.com/containerd/containerd/v2/plugins/services/leases"          //
	_ "github.com/containerd/containerd/v2/plugins/services/namespaces"      //
	_ "github.com/containerd/containerd/v2/plugins/services/snapshots"       //
	_ "github.com/containerd/containerd/v2/plugins/services/tasks"           //
	_ "github.com/containerd/containerd/v2/plugins/services/version"         //
	_ "github.com/containerd/containerd/v2/plugins/services/warning"         // the server asks for it
	_ "github.com/containerd/containerd/v2/plugins/snapshots/native/plugin"  // where overlayfs is lacking
	_ "github.com/containerd/containerd/v2/plugins/snapshots/overlay/plugin" // the usual one
)
