package plan

import (
	"strconv"
	"time"

	"resinos/containers/health"
)

// State is what the engine has: containers and images.
type State struct {
	Containers map[string]Have   // by id
	Images     map[string]string // digest by name
}

// Have is one existing container.
type Have struct {
	App         string
	Wish        string // Want.Digest at its creation
	ImageName   string
	ImageDigest string
	StopGrace   time.Duration
	StaysEnded  string         // mark of that name
	Held        string         // mark of that name
	Passing     bool           // it has Container.Hold: a container of osctl run, which ends by itself
	Depends     []string       // services of its app that it depended on at its creation
	Joined      map[string]int // pid of each container whose namespaces it uses, when it was started
	Check       *health.Check  // nil: it has none
	Task        Task
	PID         int    // of its program
	Paused      bool   // its program is frozen
	Kills       int    // processes that the kernel killed since its start because memory ran out
	Status      uint32 // of an ended task
}

// Mark is a record beside a container that survives a power cut. Its value is empty if it does not hold, otherwise the
// exit status of the container, or markRuns if the container had not ended when the mark was set.
type Mark string

// The marks.
const (
	StaysEnded Mark = "stays-ended" // a boot does not start it
	Held       Mark = "held"        // a person stopped it
)

const markRuns = "yes"

// Task is the state of a container's program.
type Task string

// The states that Make distinguishes.
const (
	NoTask  Task = ""        // never started, or removed
	Created Task = "created" // created but not started: the manager was killed in between
	Running Task = "running"
	Stopped Task = "stopped"
	Unknown Task = "unknown" // its shim does not answer: it may still run
)

// Exit returns the status that was recorded beside an ended container.
func (h Have) Exit() (status uint32, kept bool) {
	for _, mark := range []string{h.Held, h.StaysEnded} {
		if n, err := strconv.ParseUint(mark, 10, 32); err == nil {
			return uint32(n), true
		}
	}
	return 0, false
}
