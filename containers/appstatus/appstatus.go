// Package appstatus defines the status of the apps: a file in RAM that the manager writes whenever something has
// changed, and that osctl reads. The package links nothing of containerd, because osctl is part of PID 1's binary. It
// computes no status; package appview does. Read Status first.
package appstatus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"resinos/mounts/atomicfile"
)

// Path is where the status is published on a device.
const Path = "/run/resinos/apps.json"

// maxSize is far above any real status.
const maxSize = 8 << 20

// Status is the status of all apps. Times are in seconds since the kernel started, because the wall clock may jump.
type Status struct {
	Written float64 `json:"written"`
	Trouble         // of the manager itself: it cannot read the apps, or has no engine
	Apps    []App   `json:"apps"` // in name order
}

// Trouble is the trouble of an app or a container; the zero Trouble is none.
type Trouble struct {
	Cause  Cause   `json:"cause,omitempty"`
	Reason string  `json:"reason,omitempty"` // for people
	Since  float64 `json:"wrong_since,omitempty"`
}

// Wrong reports whether there is a trouble.
func (t Trouble) Wrong() bool { return t.Cause != "" }

// Cause names a kind of trouble for programs.
type Cause string

// The causes.
const (
	NotUnderstood Cause = "not-understood" // its compose file cannot be read or parsed
	NotAsWanted   Cause = "not-as-wanted"  // a step fails: its image cannot be pulled, or it does not start
	CrashLoop     Cause = "crash-loop"     // it ends soon after each start
	Failed        Cause = "failed"         // it ended with a failure, and is not started again
	Unhealthy     Cause = "unhealthy"      // its check fails
	Dependency    Cause = "dependency"     // it waits for another container, and only a person can change that
	Unanswered    Cause = "unanswered"     // its state is not known, because its shim does not answer
	NoEngine      Cause = "no-engine"      // the engine does not answer
	NotRead       Cause = "not-read"       // the directory of apps cannot be read
)

// State is the state of an app or a container; services have the same words.
type State string

// The states. The state of an app is the first one in this order that a container of it has.
const (
	GivenUp  State = "failed"
	Backoff  State = "backoff" // it ended, or could not be started, and the manager waits before it tries again
	Unknown  State = "unknown"
	Starting State = "starting" // its image is pulled, it is created, or it is started
	Stopping State = "stopping"
	Up       State = "up"
	Done     State = "done"    // it ended with 0, and is not started again
	Halted   State = "stopped" // a person stopped it
	Down     State = "down"    // a person took the app down: it has no containers
)

// States lists the states, the most urgent one first.
func States() []State {
	return []State{GivenUp, Backoff, Unknown, Starting, Stopping, Up, Done, Halted, Down}
}

// App is one app with its containers.
type App struct {
	Name       string      `json:"name"`
	State      State       `json:"state"`
	Entered    float64     `json:"since"` // of the state
	Restarts   int         `json:"restarts"`
	Trouble                // of the app, or the first of a container
	Containers []Container `json:"containers,omitempty"` // in name order
}

// Container is one container of an app.
type Container struct {
	Name     string   `json:"name"` // as compose.yaml has it
	ID       string   `json:"id"`   // its name in the log and in cgroups
	Image    string   `json:"image,omitempty"`
	Policy   string   `json:"restart,omitempty"` // when it is started again
	State    State    `json:"state"`
	Entered  float64  `json:"since"`
	Pull     *Pull    `json:"pull,omitempty"`   // its image is being pulled
	Ports    []string `json:"ports,omitempty"`  // published, as compose.yaml has them
	Health   string   `json:"health,omitempty"` // empty: it has no check
	Waits    string   `json:"waits,omitempty"`  // for which other container it waits, and why
	Restarts int      `json:"restarts"`         // starts after the first one in this boot
	LastExit string   `json:"last_exit,omitempty"`
	LastAt   float64  `json:"last_exit_at,omitempty"`
	Kills    int      `json:"oom_kills,omitempty"` // processes killed since the last start because memory ran out
	Trouble
}

// Pull is how much of a container image has been fetched.
type Pull struct {
	Done    int64 `json:"done"`              // bytes
	Size    int64 `json:"size,omitempty"`    // 0: not known yet
	Waiting bool  `json:"waiting,omitempty"` // until others have been pulled
}

// String returns the progress for people.
func (p *Pull) String() string {
	const mega = 1_000_000
	switch {
	case p.Waiting:
		return "waiting to be pulled"
	case p.Size == 0:
		return "pulling"
	}
	return fmt.Sprintf("pulling %d of %d MB", p.Done/mega, max(1, p.Size/mega))
}

// Sum computes the app's state, its restarts, and its trouble from the containers. A trouble of the app itself stays.
func (a *App) Sum() {
	a.Restarts = 0
	rank := map[State]int{}
	for i, s := range States() {
		rank[s] = i
	}
	for i := range a.Containers {
		c := &a.Containers[i]
		if a.State == "" || rank[c.State] < rank[a.State] {
			a.State, a.Entered = c.State, c.Entered
		}
		a.Restarts += c.Restarts
		if c.Wrong() && !a.Wrong() {
			a.Trouble = c.Trouble
			a.Reason = c.Name + ": " + c.Reason
		}
	}
}

// Well reports whether the app and all its containers are without trouble.
func (a *App) Well() bool { return !a.Wrong() && (a.State == Up || a.State == Done) }

// Well reports whether the container does what it is to do.
func (c *Container) Well() bool { return !c.Wrong() && (c.State == Up || c.State == Done) }

// Same reports whether two statuses are equal except for the time of writing.
func Same(a, b Status) bool {
	a.Written, b.Written = 0, 0
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// Publish replaces the file at path atomically.
func Publish(path string, s Status) error {
	text, err := json.Marshal(s)
	if err == nil {
		err = atomicfile.Write(path, text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("publish the status of apps: %w", err)
	}
	return nil
}

// Read reads the published status. The error wraps fs.ErrNotExist if none was published in this boot.
func Read(path string) (Status, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return Status{}, fmt.Errorf("read the status of apps: %w", err)
	}
	defer f.Close() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	var s Status
	switch {
	case err == nil && len(text) > maxSize:
		err = fmt.Errorf("%s is larger than %d bytes", path, maxSize)
	case err == nil:
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return Status{}, fmt.Errorf("read the status of apps: %s: %w", path, err)
	}
	return s, nil
}
