package supervise

import (
	"errors"
	"fmt"
	"os"

	"resinos/services/spec"
	"resinos/services/supervise/handle"
	"resinos/services/supervise/savedstate"
)

// Save returns what the next life of this process needs, as Config.Saved and Config.Files. Call it after Run has
// returned ErrFrozen, or has panicked, and after the reaper has ended: processes that end afterwards wait to be
// reaped. The files still belong to the supervisor.
func (s *Supervisor) Save() (state []byte, files []*os.File, err error) {
	s.drainInbox()
	out, kept := savedstate.State{Ending: s.world.Ending}, savedstate.Files{}
	if socket := s.inbox.Socket(); socket != nil {
		at := kept.Add(socket)
		out.Notify = &at
	}
	out.Services = make([]savedstate.Service, len(s.world.Services))
	for i := range out.Services {
		s.saveService(i, &out.Services[i], &kept)
	}
	exits, _ := s.exits.Take()
	for _, x := range exits {
		out.Exits = append(out.Exits, savedstate.Exit{PID: x.Status.Pid, Wait: uint32(x.Status.Wait)})
	}
	if state, err = out.Encode(); err != nil {
		return nil, nil, fmt.Errorf("save supervisor: %w", err)
	}
	return state, kept, nil
}

// drainInbox handles the messages that were received and not handled yet. After a panic one of them may be its cause,
// so a panic in one does not keep the others from being handled.
func (s *Supervisor) drainInbox() {
	for {
		select {
		case n := <-s.inbox.C():
			func() {
				defer func() { _ = recover() }() // the first panic is being handled
				s.note(n)
			}()
		default:
			return
		}
	}
}

func (s *Supervisor) saveService(i int, out *savedstate.Service, kept *savedstate.Files) {
	out.Spec = s.world.Specs[i]
	out.Set(s.world.Services[i])
	s.handles[i].Save(out, kept)
}

// restore makes the world that was saved, and adopts its processes.
func (s *Supervisor) restore() error {
	in, err := savedstate.Decode(s.cfg.Saved)
	if err != nil {
		return fmt.Errorf("restore supervisor: %w", err)
	}
	files := savedstate.Descriptors(s.cfg.Files)
	specs := make([]spec.Spec, len(in.Services))
	for i := range in.Services {
		specs[i] = in.Services[i].Spec
	}
	if in.Notify != nil {
		fd, err := files.Take(*in.Notify)
		if err == nil {
			err = s.inbox.Restore(fd, s.cfg.NotifyPath)
		}
		if err != nil {
			return fmt.Errorf("restore supervisor: %w", err)
		}
	}
	s.rebuild(specs)
	s.world.Ending = in.Ending
	for k := range in.Services {
		if err := s.restoreService(&in.Services[k], files); err != nil {
			return fmt.Errorf("restore service %s: %w", specs[k].Name, err)
		}
	}
	a := handle.Adoption{Reaper: s.cfg.Reaper, Exits: s.exits, Log: s.log, Known: in.Exits}
	for i, h := range s.handles {
		h.Adopt(a, s.name(i), s.world.Services[i].PID)
	}
	s.cfg.Saved, s.cfg.Files, s.resumed = nil, nil, true
	return nil
}

func (s *Supervisor) restoreService(in *savedstate.Service, files savedstate.Descriptors) (err error) {
	i, known := s.index[in.Spec.Name]
	if !known {
		return errors.New("it is named twice")
	}
	svc, h := &s.world.Services[i], s.handles[i]
	if *svc, err = in.Lifecycle(*svc); err != nil {
		return err
	}
	return h.Restore(in, svc.Phase, files)
}
