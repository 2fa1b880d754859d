// Package handle owns what PID 1 holds of one service beyond its state: its processes, descriptors and checks, and what
// status shows of it. It passes all of it to the next life of PID 1. It decides nothing. Read Handle first.
package handle

import (
	"errors"
	"log/slog"
	"os"
	"syscall"

	"resinos/services/proc"
	"resinos/services/supervise/check"
	"resinos/services/supervise/connection"
	"resinos/services/supervise/descriptor"
	"resinos/services/supervise/lifecycle"
	"resinos/services/supervise/loop"
	"resinos/services/supervise/notification"
	"resinos/services/supervise/savedstate"
)

// Handle is what is held of one service. The service keeps it when the service files are read again, though its number
// changes. Times are seconds since the kernel started, 0 is none.
type Handle struct {
	ID  int // which no other service ever has
	Num int // the number in the world

	Process     *proc.Process // the latest main process; nil before the first
	Birth       uint64        // its start time in clock ticks, which tells it from a later process with the same pid
	Clients     connection.Clients
	Descriptors descriptor.Set
	Checks      check.Checks
	Faults      notification.Faults

	// OOMs counts the processes of the cgroup that were killed for want of memory before this life: it may be older.
	OOMs    int
	Removed bool // its file is gone: the service is stopped and then forgotten
	Stale   bool // its file has changed since it was started

	Text    string          // its latest STATUS=
	Shown   lifecycle.Phase // the phase that was logged last
	Changed float64         // when that began
	Began   float64         // when the first life began
	Ready   float64         // when it was up for the first time

	earlier []savedstate.Process // processes of connections in the earlier life of PID 1, until Adopt
}

// Exit is the end of a process of a service: of its main process or of one that serves a connection.
type Exit struct {
	Handle *Handle
	Status proc.Status
	Client bool
}

// Started notes the new main process of the service.
func (h *Handle) Started(p *proc.Process) {
	h.Process = p
	h.Birth, _ = proc.StartTime(p.Pid) // 0 when it has ended already, which will be handled
}

// Save writes h into the saved state of its service.
func (h *Handle) Save(out *savedstate.Service, files *savedstate.Files) {
	out.Removed, out.Stale, out.Text, out.Birth, out.OOMs = h.Removed, h.Stale, h.Text, h.Birth, h.OOMs
	out.Changed, out.FirstAt, out.FirstUp = h.Changed, h.Began, h.Ready
	out.Clients = h.Clients.Save()
	h.Descriptors.Save(out, files)
}

// Restore is the reverse of Save, for a service in phase p. Adopt must follow for the processes.
func (h *Handle) Restore(in *savedstate.Service, p lifecycle.Phase, files savedstate.Descriptors) error {
	h.Removed, h.Stale, h.Text, h.Birth, h.OOMs = in.Removed, in.Stale, in.Text, in.Birth, in.OOMs
	h.Shown, h.Changed, h.Began, h.Ready = p, in.Changed, in.FirstAt, in.FirstUp
	h.earlier = in.Clients
	return h.Descriptors.Restore(in, files)
}

// Adoption is what Adopt needs for all services.
type Adoption struct {
	Reaper *proc.Reaper // must not run yet: a process that has ended is then still there, and its status can be read
	Exits  *loop.Queue[Exit]
	Log    *slog.Logger

	Known []savedstate.Exit // ends that the earlier life knew of
}

// Adopt adopts the processes of the earlier life of PID 1: the main process pid, 0 if there is none, and those of
// connections. The exits of those that have ended are queued.
func (h *Handle) Adopt(a Adoption, service string, pid int) {
	if pid != 0 {
		h.Process = a.adopt(h, service, savedstate.Process{PID: pid, Birth: h.Birth}, false)
	}
	for _, c := range h.earlier {
		if p := a.adopt(h, service, c, true); p != nil {
			h.Clients.Add(p)
		}
	}
	h.earlier = nil
}

// adopt returns nil for a process that has ended.
func (a Adoption) adopt(h *Handle, service string, c savedstate.Process, client bool) *proc.Process {
	for _, x := range a.Known {
		if x.PID == c.PID {
			a.Exits.Add(Exit{h, proc.Status{Pid: c.PID, Wait: syscall.WaitStatus(x.Wait)}, client})
			return nil
		}
	}
	p, err := a.Reaper.Adopt(c.PID, c.Birth, func(st proc.Status) { a.Exits.Add(Exit{h, st, client}) })
	if err == nil {
		return p
	}
	if !errors.Is(err, os.ErrProcessDone) {
		a.Log.Warn("process not taken over", "service", service, "pid", c.PID, "error", err)
	}
	a.Exits.Add(Exit{h, proc.Status{Pid: c.PID, Unknown: true}, client})
	return nil
}
