// Package workload owns what runs in containers: it reads the apps, looks at what containerd has,
// plans the difference and carries it out, and starts again what ended. It never parses compose
// files (package load has it done) and never copies a container's output: the shim writes into the log's
// pipes. Read Manager first, then Plan.
//
//	apps/NAME/compose.yaml ─ Loader ────┐
//	                                    ├─ Plan ─ steps ─ one worker a container ─ containerd
//	containerd's containers, tasks ─────┘                        │
//	        ↑ exit events, worker done, retry timer ─────────────┘
package workload

import (
	"context"
	"log/slog"
	"time"

	"resinos/containers/app"
	"resinos/containers/appfiles"
	"resinos/containers/health"
	"resinos/containers/plan"
	"resinos/containers/pull"
	"resinos/containers/store"
	"resinos/services/notify"
)

// Where things lie on the device.
const (
	Apps    = "/mnt/data/apps"
	Loaded  = "/mnt/data/loaded"
	Records = "/run/resinos/workload"
	Down    = "/mnt/data/apps-down.json"
	// Shutdown exists while the whole device goes down. PID 1 makes it before it stops services
	// (init/shutdown): only then does the end of the manager end the containers too.
	Shutdown = "/run/resinos/power"
)

// Config is what the manager is told; nothing else of the device is assumed.
type Config struct {
	Engine   Engine
	Networks Networks // of the apps; nil: there are none
	Health   Health   // nil: nobody asks containers how they are
	Pulls    Pulls
	Apps     string // one directory an app
	Loader   appfiles.Loader
	Records  string // exits and restarts, forgotten at power off
	Shutdown string
	Status   string // where package appstatus publishes how the apps are; empty: nowhere
	Down     string // file of the apps that a person took down, on the disk; empty: none is kept
	// Orders are what people ask for; may be nil.
	Orders *Orders
	// Event is told what becomes of containers, for those who watch; may be nil.
	Event func(id, what, detail string)
	// Needs is told which images must stay; nil: nobody asks.
	Needs *store.Needs
	// Reload asks to read the apps again (appfiles.Watch does, and a person); may be nil.
	Reload <-chan struct{}
	// Alive is told at each round of the manager; nil: nobody watches.
	Alive *notify.Pulse
	Log   *slog.Logger
}

// Engine is what the manager needs of containerd. Every method may fail when the engine is gone;
// all may be called again for the same container with the same result.
type Engine interface {
	// Connect waits until the engine answers and returns a channel that gets a value whenever
	// something may have ended, and is closed when the engine is gone.
	Connect(ctx context.Context) (<-chan struct{}, error)
	// Observe returns what there is now. started tells of a container whether its program is known to have been
	// started and not to have ended: only then it is asked for a task that it does not show by itself.
	Observe(ctx context.Context, started func(id string) bool) (plan.State, error)
	Import(ctx context.Context, p plan.Preload) error
	// Create makes the container from its image, which is there, under the digest of its wish.
	Create(ctx context.Context, w plan.Want) error
	// Start runs the container's program; an ended or half-made task is cleared away first.
	Start(ctx context.Context, c app.Container) error
	// Reap clears an ended task away and returns its exit status.
	Reap(ctx context.Context, id string) (status uint32, err error)
	// Stop asks the program to end, kills it after grace, clears its task away and returns its exit status.
	Stop(ctx context.Context, id string, grace time.Duration) (status uint32, err error)
	// Note keeps a mark beside the container, on the disk; an empty value takes it back.
	Note(ctx context.Context, id string, mark plan.Mark, value string) error
	// Delete removes a container that has no task, with its root file system.
	Delete(ctx context.Context, id string) error
}

// Networks makes the networks that wanted containers are on. Those of other containers stay while they are there.
type Networks interface {
	Apply(wanted []app.Container, there func(id string) bool) error
}

// Health asks containers how they are: health.Keeper, which says what each method does.
type Health interface {
	Want(list []health.Subject)
	State(id string) (health.State, bool)
	Changed() <-chan struct{}
}

// Pulls brings images, for as long as it takes: pull.Pulls, which says what each method does.
type Pulls interface {
	Want(images []string)
	Status(image string) (pull.Status, bool)
	Changed() <-chan struct{}
}
