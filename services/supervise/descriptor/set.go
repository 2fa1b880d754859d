// Package descriptor owns the descriptors that PID 1 keeps open for one service: its listening sockets, and those that
// the service left with PID 1 (FDSTORE=1). It reads from none of them and accepts no connection. Read Set first.
package descriptor

import (
	"os"
	"slices"

	"resinos/services/demand"
	"resinos/services/notify"
	"resinos/services/spec"
	"resinos/services/supervise/command"
	"resinos/services/supervise/savedstate"
)

// Set is the descriptors of one service. They stay open between two lives of the service. The zero value is empty.
type Set struct {
	Sockets []*os.File // open while somebody may connect
	stored  []stored
}

type stored struct {
	name string
	file *os.File
	gone bool // it hung up
}

// Listen opens the sockets of sp unless they are open.
func (s *Set) Listen(sp *spec.Spec) (err error) {
	if len(s.Sockets) == 0 && len(sp.Listen.Sockets) > 0 {
		s.Sockets, err = demand.Open(sp.Listen, sp.Name)
	}
	return err
}

// Awaited returns the descriptors whose traffic starts sp: the sockets and, if the service wants that, what it left.
func (s *Set) Awaited(sp *spec.Spec) []*os.File {
	files := slices.Clone(s.Sockets)
	if sp.ListenStored {
		for _, kept := range s.stored {
			if !kept.gone {
				files = append(files, kept.file)
			}
		}
	}
	return files
}

// HungUp notes that f will never have traffic again. The next process still gets it, with what it may hold.
func (s *Set) HungUp(f *os.File) {
	for i := range s.stored {
		if s.stored[i].file == f {
			s.stored[i].gone = true
		}
	}
}

// CloseHungUp closes what hung up before the process that now has it.
func (s *Set) CloseHungUp() {
	s.stored = slices.DeleteFunc(s.stored, func(kept stored) bool {
		if kept.gone {
			kept.file.Close() // PID 1 has written nothing to it
		}
		return kept.gone
	})
}

// CloseSockets closes the sockets, which were opened for l, and removes their paths.
func (s *Set) CloseSockets(l spec.Listen) {
	demand.Close(l, s.Sockets)
	s.Sockets = nil
}

// CloseStored closes what the service left with PID 1.
func (s *Set) CloseStored() {
	for _, kept := range s.stored {
		kept.file.Close() // PID 1 has written nothing to it
	}
	s.stored = nil
}

// Inherited returns what the main process of sp gets: the sockets and the stored descriptors.
func (s *Set) Inherited(sp *spec.Spec) (g command.Inherited) {
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
	return g
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
			s.stored = append(s.stored, stored{name: name, file: f})
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
		s.stored = append(s.stored, stored{name: st.Name, file: f})
	}
	return nil
}
