// Package connection owns the processes of a service that starts one process for each connection: it accepts
// connections, has a process started for each, and counts and signals these processes. It waits for no connection. Read
// Clients first.
package connection

import (
	"errors"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"resinos/services/demand"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise/savedstate"
)

// Clients are the processes of one service that serve a connection. The zero value is empty.
type Clients struct{ processes map[int]*proc.Process }

// Len counts the processes.
func (c *Clients) Len() int { return len(c.processes) }

// Add adds a process that serves a connection already.
func (c *Clients) Add(p *proc.Process) {
	if c.processes == nil {
		c.processes = map[int]*proc.Process{}
	}
	c.processes[p.Pid] = p
}

// Remove removes a process that has ended.
func (c *Clients) Remove(pid int) { delete(c.processes, pid) }

// Signal sends sig to all processes.
func (c *Clients) Signal(sig unix.Signal) {
	for _, p := range c.processes {
		_ = p.Signal(sig) // the end of one that has ended will be handled
	}
}

// Save lists the processes for the next life of PID 1.
func (c *Clients) Save() (list []savedstate.Process) {
	for pid := range c.processes {
		birth, _ := proc.StartTime(pid) // 0 when it has ended: the next life finds out
		list = append(list, savedstate.Process{PID: pid, Birth: birth})
	}
	return list
}

// maxAccept limits the connections that one call of Accept accepts.
const maxAccept = 16

// Acceptor accepts the connections of one service.
type Acceptor struct {
	Spec  *spec.Spec
	Log   *slog.Logger
	Start func(conn *os.File) (*proc.Process, error) // starts a process for conn, which Accept closes
}

// Accept accepts the connections that wait at sockets and adds a process for each. full means that as many processes
// run as may: the caller calls it again after an end. Otherwise the caller waits for the next connection.
func (c *Clients) Accept(sockets []*os.File, a Acceptor) (full bool) {
	for range maxAccept {
		if c.Len() >= a.Spec.Listen.Max {
			return true
		}
		if !c.acceptOne(sockets, a) {
			break
		}
	}
	return false
}

// acceptOne reports whether there may be another connection.
func (c *Clients) acceptOne(sockets []*os.File, a Acceptor) bool {
	for _, socket := range sockets {
		conn, peer, err := demand.Accept(socket)
		if errors.Is(err, demand.ErrNone) {
			continue
		}
		if err != nil {
			a.Log.Warn("connection lost", "service", a.Spec.Name, "error", err)
			return false
		}
		p, err := a.Start(conn)
		conn.Close() // the process has its own
		if err != nil {
			a.Log.Error("connection not served", "service", a.Spec.Name, "peer", peer, "error", err)
		} else {
			c.Add(p)
		}
		return true
	}
	return false
}
