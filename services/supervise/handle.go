package supervise

import (
	"resinos/services/boottime"
	"resinos/services/proc"
	"resinos/services/supervise/check"
	"resinos/services/supervise/connection"
	"resinos/services/supervise/descriptor"
	"resinos/services/supervise/lifecycle"
	"resinos/services/supervise/notification"
	"resinos/services/supervise/savedstate"
)

// handle is what the supervisor holds of one service beyond its state: processes, descriptors, checks, and what status
// shows. A service keeps its handle when the service files are read again, though its number in the world may change.
type handle struct {
	id  int // which no other service ever has
	num int // the number in the world

	process *proc.Process
	birth   uint64 // start time of process in clock ticks, which tells it from a later one with the same pid
	clients connection.Clients

	descriptors descriptor.Set

	checks check.Checks

	// processes of the cgroup that were killed for want of memory before this life: the cgroup may be older
	ooms    int
	text    string // its latest STATUS=
	faults  notification.Faults
	changed float64         // when the phase began, in seconds since the kernel started
	shown   lifecycle.Phase // the phase that was logged last
	began   float64         // when the first life began, likewise
	ready   float64
	stale   bool                 // its file has changed since it was started
	earlier []savedstate.Process // processes of connections in an earlier life of PID 1, until they are adopted
	removed bool                 // its file is gone: the service is stopped and then forgotten
}

// uptime is the time in seconds since the kernel started.
func uptime() float64 { return boottime.Now().Seconds() }

// exit is the end of a process of a service: of its main process or of one that serves a connection.
type exit struct {
	handle *handle
	status proc.Status
	client bool
}
