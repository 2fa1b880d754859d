// Package descriptor owns the descriptors that PID 1 keeps open for one service: its listening sockets, the descriptors
// that the service left with PID 1 (FDSTORE=1), and the pipe on which it reports that it is ready. It reads from none
// of them and accepts no connection. Read Set first.
package descriptor

import (
	"fmt"
	"os"

	"resinos/services/demand"
	"resinos/services/notify"
	"resinos/services/spec"
	"resinos/services/supervise/command"
	"resinos/services/supervise/savedstate"
)

// Set is the descriptors of one service. They stay open between two lives of the service. The zero value is empty.
type Set struct {
	Sockets []*os.File // open while somebody may connect
	Ready   *os.File   // the end from which PID 1 reads; open while the service starts
	stored  []stored
}

type stored struct {
	name string
	file *os.File
}

// Listen opens the sockets of sp unless they are open.
func (s *Set) Listen(sp *spec.Spec) (err error) {
	if len(s.Sockets) == 0 && len(sp.Listen.Sockets) > 0 {
		s.Sockets, err = demand.Open(sp.Listen, sp.Name)
	}
	return err
}

// CloseSockets closes the sockets, which were opened for l, and removes their paths.
func (s *Set) CloseSockets(l spec.Listen) {
	demand.Close(l, s.Sockets)
	s.Sockets = nil
}

// Close closes what is not a socket.
func (s *Set) Close() {
	for _, kept := range s.stored {
		kept.file.Close() // PID 1 has written nothing to it
	}
	s.stored = nil
	s.CloseReady()
}

// CloseReady closes the readiness pipe.
func (s *Set) CloseReady() {
	if s.Ready != nil {
		s.Ready.Close() // nothing more is read from it
		s.Ready = nil
	}
}

// Inherited returns what the main process of sp gets: the sockets, the stored descriptors and the other end of a new
// readiness pipe. The caller must call started when the process has been started, or cannot be.
func (s *Set) Inherited(sp *spec.Spec) (g command.Inherited, started func(), err error) {
	g.Watchdog, g.Notify = sp.WatchdogEvery, command.Talks(sp)
	for i, f := range s.Sockets {
		g.Files = append(g.Files, f)
		name := sp.Listen.Sockets[i].Name
		if name == "" {
			name = sp.Name
		}
		g.Names = append(g.Names, name)
	}
	for _, kept := range s.stored {
		g.Files = append(g.Files, kept.file)
		g.Names = append(g.Names, kept.name)
	}
	if sp.Ready.FD == 0 {
		return g, func() {}, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return g, nil, fmt.Errorf("create readiness pipe: %w", err)
	}
	s.CloseReady()
	s.Ready, g.ReadyTo = r, sp.Ready.FD
	g.Files = append(g.Files, w)
	return g, func() { w.Close() }, nil // the process has its own
}

// Stored returns how many descriptors the service has left.
func (s *Set) Stored() int { return len(s.stored) }

// Store keeps the files of message m, or removes those that the message names. The service may leave as many as limit
// says. All other files are closed; refused is how many of them the service wanted to leave.
func (s *Set) Store(m notify.Message, files []*os.File, limit int) (refused int) {
	if m.FDRemove {
		s.remove(m.FDName)
	}
	name := m.FDName
	if name == "" {
		name = "stored"
	}
	for _, f := range files {
		switch {
		case !m.FDStore || m.FDRemove:
			f.Close() // not for PID 1 to use
		case len(s.stored) >= limit:
			f.Close() // the service may leave no more
			refused++
		default:
			s.stored = append(s.stored, stored{name, f})
		}
	}
	return refused
}

func (s *Set) remove(name string) {
	kept := s.stored[:0]
	for _, st := range s.stored {
		if st.name == name {
			st.file.Close() // PID 1 has written nothing to it
			continue
		}
		kept = append(kept, st)
	}
	s.stored = kept
}

// Save writes s into the saved state of its service.
func (s *Set) Save(out *savedstate.Service, files *savedstate.Files) {
	for _, f := range s.Sockets {
		out.Sockets = append(out.Sockets, files.Add(f))
	}
	for _, kept := range s.stored {
		out.Stored = append(out.Stored, savedstate.File{Name: kept.name, File: files.Add(kept.file)})
	}
	if s.Ready != nil {
		at := files.Add(s.Ready)
		out.Pipe = &at
	}
}

// Restore is the reverse of Save. If it fails, s holds what it could take.
func (s *Set) Restore(in *savedstate.Service, files savedstate.Descriptors) error {
	for i, n := range in.Sockets {
		name := in.Spec.Name
		if i < len(in.Spec.Listen.Sockets) {
			name = in.Spec.Listen.Sockets[i].Network + ":" + in.Spec.Listen.Sockets[i].Address
		}
		f, err := files.Hold(n, name)
		if err != nil {
			return err
		}
		s.Sockets = append(s.Sockets, f)
	}
	for _, st := range in.Stored {
		f, err := files.Hold(st.File, st.Name)
		if err != nil {
			return err
		}
		s.stored = append(s.stored, stored{st.Name, f})
	}
	if in.Pipe != nil {
		fd, err := files.Take(*in.Pipe)
		if err != nil {
			return err
		}
		s.Ready = os.NewFile(uintptr(fd), "readiness") // read with deadlines, so Go's poller must know it
	}
	return nil
}
