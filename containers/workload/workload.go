// Package workload is the manager: it reads the apps, observes the containers of containerd, plans the difference and
// carries it out, and starts ended containers again. It never parses compose files (package load runs the program that
// does) and never copies a container's output: the shim writes into the log pipes. Read Manager first, then package
// plan.
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

// Paths on the device.
const (
	Apps    = "/mnt/data/apps"
	Loaded  = "/mnt/data/loaded"
	Records = "/run/resinos/workload"
	Down    = "/mnt/data/apps-down.json"
	// Shutdown exists while the whole device goes down. PID 1 creates it before it stops services (init/shutdown). Only
	// while it exists does the manager stop the containers at its end.
	Shutdown = "/run/resinos/power"
)

// Config holds everything that the manager uses of the device.
type Config struct {
	Engine   Engine
	Networks Networks // of the apps; nil: there are none
	Health   Health   // nil: no health checks
	Pulls    Pulls
	Apps     string // one directory for each app
	Loader   appfiles.Loader
	Records  string // directory of the records of exits and restarts; in RAM
	Shutdown string
	Status   string // file in which package appstatus publishes the status; empty: none
	Down     string // file with the apps that a person took down, on the disk; empty: none
	// Orders are the orders of people; may be nil.
	Orders *Orders
	// Event is called for each change of a container, for osctl events; may be nil.
	Event func(id, what, detail string)
	// Needs is called with the images that must stay; may be nil.
	Needs *store.Needs
	// Reload requests that the apps are read again (from appfiles.Watch, and from a person); may be nil.
	Reload <-chan struct{}
	// Alive gets a beat at each round of the manager; nil: there is no watchdog.
	Alive *notify.Pulse
	Log   *slog.Logger
}

// Engine is what the manager uses of containerd. Every method may fail when the engine is gone; each may be called
// again for the same container with the same result.
type Engine interface {
	// Connect waits until the engine answers and returns a channel that gets a value whenever
	// something may have ended, and is closed when the engine is gone.
	Connect(ctx context.Context) (<-chan struct{}, error)
	// Observe returns the actual state. started reports whether the program of a container is known to run. If it is,
	// and the engine's list lacks its task, Observe asks the engine for this task.
	Observe(ctx context.Context, started func(id string) bool) (plan.State, error)
	Import(ctx context.Context, p plan.Preload) error
	// Create creates the container from its image, which must be there, and labels it with the digest of w.
	Create(ctx context.Context, w plan.Want) error
	// Start runs the container's program; it first removes a task that has ended or is incomplete.
	Start(ctx context.Context, c app.Container) error
	// Reap removes an ended task and returns its exit status.
	Reap(ctx context.Context, id string) (status uint32, err error)
	// Stop asks the program to end, kills it after grace, removes its task and returns its exit status.
	Stop(ctx context.Context, id string, grace time.Duration) (status uint32, err error)
	// Note writes a mark of the container to the disk; an empty value removes it.
	Note(ctx context.Context, id string, mark plan.Mark, value string) error
	// Delete removes a container that has no task, with its root file system.
	Delete(ctx context.Context, id string) error
}

// Networks creates the networks of wanted containers. Networks of other containers stay as long as these containers.
type Networks interface {
	Apply(wanted []app.Container, there func(id string) bool) error
}

// Health runs the checks of containers: health.Keeper, which documents each method.
type Health interface {
	Want(list []health.Subject)
	State(id string) (health.State, bool)
	Changed() <-chan struct{}
}

// Pulls pulls images: pull.Pulls, which documents each method.
type Pulls interface {
	Want(images []string)
	Status(image string) (pull.Status, bool)
	Changed() <-chan struct{}
}
