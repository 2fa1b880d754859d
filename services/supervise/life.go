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

// life is what the loop holds of a service beyond its state: processes, descriptors and what is
// shown. It belongs to the loop. A service keeps its life when the service files are read again,
// though its number in the world may change.
type life struct {
	id  int // never given to another: what the watcher of demands knows it by
	num int // in the world

	process *proc.Process
	birth   uint64 // when the process was born, in the kernel's ticks: tells it from a later one of the same number
	clients connection.Clients

	descriptors descriptor.Set

	checks check.Checks

	ooms    int    // kills for want of memory in its group before this life: a group that outlives its process counts on
	text    string // its latest STATUS=
	faults  notification.Faults
	changed float64         // of the phase, in seconds since kernel start
	shown   lifecycle.Phase // what was logged last
	began   float64         // of the first life, in seconds since kernel start
	ready   float64
	stale   bool                 // its file says something else now than when it was started
	left    []savedstate.Process // connections of an earlier life, until they are taken over
	removed bool                 // its file is gone: it is stopped and then forgotten
}

// moment is now in seconds since the kernel started.
func moment() float64 { return boottime.Now().Seconds() }

// death is the end of one process of a service: its main one, or the one of a connection.
type death struct {
	life   *life
	status proc.Status
	client bool
}
