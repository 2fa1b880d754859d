// Package appcontrol defines the operations on the manager's socket: their arguments and results as types, and a client
// with a method for each. The protocol is that of services/control: JSON lines, versioned, root only. The package
// decides nothing and links nothing of containerd: package appserver serves the operations, osctl uses the Client. Read
// Client first.
package appcontrol

import (
	"context"
	"encoding/json"
	"strings"

	"resinos/services/control"
)

// SocketPath is the manager's socket on the device. It exists while the manager runs.
const SocketPath = "/run/resinos/apps.sock"

// The operations that take an App. Those that change something answer when the change is done or has failed.
const (
	OpStart   = "start"
	OpStop    = "stop"
	OpRestart = "restart"
	OpUp      = "up"
	OpDown    = "down"
	OpPlan    = "plan"
	OpInspect = "inspect"
)

// The operations with arguments of their own.
const (
	OpExec   = "exec"
	OpRun    = "run"
	OpEvents = "events"
)

// App names an app, or one of its containers.
type App struct {
	App     string `json:"app,omitempty"` // empty (only for up and plan): all
	Service string `json:"service,omitempty"`
	// Volumes makes down remove the volumes of the app too.
	Volumes bool `json:"volumes,omitempty"`
}

// Parse reads APP, APP.SERVICE or APP/SERVICE. It does not check whether the app exists.
func Parse(name string) App {
	at := strings.IndexAny(name, "./")
	if at < 0 {
		return App{App: name}
	}
	return App{App: name[:at], Service: name[at+1:]}
}

// String returns the form that Parse reads.
func (a App) String() string {
	if a.Service == "" {
		return a.App
	}
	return a.App + "." + a.Service
}

// Step is one step of the plan, for programs and for people.
type Step struct {
	Container string  `json:"container"`
	Verb      string  `json:"verb"`
	Why       string  `json:"why"`
	In        float64 `json:"in,omitempty"` // seconds until it may be carried out
}

// Exec is the argument of exec.
type Exec struct {
	App
	Args    []string `json:"args"`
	Env     []string `json:"env,omitempty"` // in addition to that of the container
	User    string   `json:"user,omitempty"`
	Dir     string   `json:"dir,omitempty"`
	TTY     bool     `json:"tty,omitempty"`
	Rows    uint     `json:"rows,omitempty"` // of the terminal
	Columns uint     `json:"columns,omitempty"`
}

// Program is the command that the caller has to execute, as root, to run a program in a container. The caller has its
// streams, its terminal and its exit status directly, so that they survive the death of manager and engine.
type Program struct {
	ID   string   `json:"id"`   // of the container
	Path string   `json:"path"` // the OCI runtime
	Args []string `json:"args"` // without the program; flags may be inserted before the last one
	// Process describes the program to the runtime, which reads it from descriptor 3.
	Process json.RawMessage `json:"process"`
}

// Container is one container as inspect shows it. The forms of its raw members are defined by the engine and by package
// app.
type Container struct {
	ID          string            `json:"id"`
	PID         int               `json:"pid,omitempty"`
	Wanted      json.RawMessage   `json:"wanted,omitempty"` // by the app; absent: it is to be removed
	Labels      map[string]string `json:"labels,omitempty"` // in the engine
	Image       string            `json:"image,omitempty"`
	ImageDigest string            `json:"image_digest,omitempty"`
	Snapshot    string            `json:"snapshot,omitempty"`
	Created     string            `json:"created,omitempty"` // RFC 3339; wrong if the clock was
	Spec        json.RawMessage   `json:"spec,omitempty"`    // of the OCI runtime
	Status      json.RawMessage   `json:"status,omitempty"`  // as in the status file
	Health      *Health           `json:"health,omitempty"`  // absent: it has no check
}

// Health is the result of the checks of a container.
type Health struct {
	Status string  `json:"status"`         // starting, healthy, unhealthy
	Streak int     `json:"failing_streak"` // failures in a row that count
	Log    []Check `json:"log"`            // the last five, oldest first
}

// Check is one check of a container.
type Check struct {
	At     float64 `json:"at"`   // when it began, in seconds since the kernel started
	Time   string  `json:"time"` // the same, RFC 3339; wrong if the clock was
	Took   float64 `json:"took"` // seconds
	Exit   int     `json:"exit_code"`
	Output string  `json:"output"`
}

// Event is something that happened to a container.
type Event struct {
	Seq       uint64  `json:"seq"`
	At        float64 `json:"at"`   // seconds since the kernel started
	Time      string  `json:"time"` // RFC 3339
	Container string  `json:"container"`
	What      string  `json:"event"`            // create, start, end, delete, oom, health_status
	Detail    string  `json:"detail,omitempty"` // how it ended
}

// Watch is the argument of events: it asks for those after a number. The manager answers when there is one, or with
// none after a minute.
type Watch struct {
	After uint64 `json:"after"`
	Now   bool   `json:"now,omitempty"` // answer at once, with the events that are kept
}

// Client sends requests to the manager. A refusal is a *control.Error.
type Client struct {
	Socket string // empty is SocketPath
}

func (c Client) call(ctx context.Context, op string, args, result any) error {
	socket := c.Socket
	if socket == "" {
		socket = SocketPath
	}
	return control.Call(ctx, socket, op, args, result)
}

// Change carries out start, stop, restart, up or down.
func (c Client) Change(ctx context.Context, op string, a App) error {
	return c.call(ctx, op, a, nil)
}

// Plan lists the steps from the actual to the wanted state, of one app or of all.
func (c Client) Plan(ctx context.Context, a App) ([]Step, error) {
	var steps []Step
	err := c.call(ctx, OpPlan, a, &steps)
	return steps, err
}

// Inspect returns all that the manager knows of the containers of an app, or of one.
func (c Client) Inspect(ctx context.Context, a App) ([]Container, error) {
	var list []Container
	err := c.call(ctx, OpInspect, a, &list)
	return list, err
}

// Exec asks how to run a program in a container.
func (c Client) Exec(ctx context.Context, e Exec) (Program, error) {
	var p Program
	err := c.call(ctx, OpExec, e, &p)
	return p, err
}

// Run asks how to run a command in a container of its own, created like that of a service. The container ends with the
// command. Without arguments it runs the service's command.
func (c Client) Run(ctx context.Context, e Exec) (Program, error) {
	var p Program
	err := c.call(ctx, OpRun, e, &p)
	return p, err
}

// Events waits for events.
func (c Client) Events(ctx context.Context, w Watch) ([]Event, error) {
	var list []Event
	err := c.call(ctx, OpEvents, w, &list)
	return list, err
}
