package plan

import (
	"strconv"
	"time"

	"resinos/containers/health"
)

// State is all that containerd has of ours.
type State struct {
	Containers map[string]Have   // by id
	Images     map[string]string // digest by name
}

// Have is one container as it is.
type Have struct {
	App         string
	Wish        string // Want.Digest when it was made
	ImageName   string
	ImageDigest string
	StopGrace   time.Duration
	StaysEnded  string         // mark of that name
	Held        string         // mark of that name
	Passing     bool           // it has Container.Hold: it ends by itself, and is not wanted again
	Depends     []string       // services of its app that it depended on when it was made
	Joined      map[string]int // pid of each container whose namespaces it uses, when it was started
	Check       *health.Check  // nil: nobody asks it how it is
	Task        Task
	PID         int    // of its program
	Paused      bool   // its program is frozen
	Kills       int    // processes that the kernel ended for want of memory since its task was made
	Status      uint32 // of an ended task
}

// Mark is what is kept beside a container over a power cut: empty if it does not hold, else the exit status of the
// container, or markRuns if it had not ended when it was set.
type Mark string

// The marks.
const (
	StaysEnded Mark = "stays-ended" // it is not started because the device comes up
	Held       Mark = "held"        // a person stopped it
)

const markRuns = "yes"

// Task is the state of a container's program.
type Task string

// The states that make a difference to Plan.
const (
	NoTask  Task = ""        // never started, or cleared away
	Created Task = "created" // made but not begun: its starter died
	Running Task = "running"
	Stopped Task = "stopped"
	Unknown Task = "unknown" // its shim does not answer: it may well run
)

// Exit is the status that was kept beside an ended container.
func (h Have) Exit() (status uint32, kept bool) {
	for _, mark := range []string{h.Held, h.StaysEnded} {
		if n, err := strconv.ParseUint(mark, 10, 32); err == nil {
			return uint32(n), true
		}
	}
	return 0, false
}
