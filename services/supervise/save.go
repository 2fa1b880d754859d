package supervise

import (
	"errors"
	"fmt"
	"os"

	"resinos/services/spec"
	"resinos/services/supervise/savedstate"
)

// Save gives everything that the next life of this process needs to go on: Config.Saved and
// Config.Files. It is for after Run has returned with ErrFrozen, or has panicked, and after the
// reaper has ended: what dies from then on waits to be reaped. The files stay ours.
func (s *Supervisor) Save() (state []byte, files []*os.File, err error) {
	s.hearOut()
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
		out.Exits = append(out.Exits, savedstate.Exit{PID: x.status.Pid, Wait: uint32(x.status.Wait)})
	}
	if state, err = out.Encode(); err != nil {
		return nil, nil, fmt.Errorf("save supervisor: %w", err)
	}
	return state, kept, nil
}

// hearOut takes in the notifications that were received and not yet dealt with. After a panic one of
// them may be what the loop stumbled over, so each may fail by itself.
func (s *Supervisor) hearOut() {
	for {
		select {
		case n := <-s.inbox.C():
			func() {
				defer func() { _ = recover() }() // the panic that matters is being dealt with
				s.note(n)
			}()
		default:
			return
		}
	}
}

func (s *Supervisor) saveService(i int, out *savedstate.Service, kept *savedstate.Files) {
	l := s.lives[i]
	out.Set(s.world.Services[i])
	out.Spec, out.Removed, out.Stale, out.Text, out.Birth, out.OOMs = s.world.Specs[i], l.removed, l.stale, l.text, l.birth, l.ooms
	out.Changed, out.FirstAt, out.FirstUp = l.changed, l.began, l.ready
	out.Clients = l.clients.Save()
	l.descriptors.Save(out, kept)
}

// restore makes the world that was saved. The processes are taken over by resume.
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
	s.settle(specs)
	s.world.Ending = in.Ending
	for k := range in.Services {
		if err := s.restoreService(&in.Services[k], files); err != nil {
			return fmt.Errorf("restore service %s: %w", specs[k].Name, err)
		}
	}
	s.takeOver(in.Exits)
	s.cfg.Saved, s.cfg.Files, s.resumes = nil, nil, true
	return nil
}

func (s *Supervisor) restoreService(in *savedstate.Service, files savedstate.Descriptors) (err error) {
	i, known := s.index[in.Spec.Name]
	if !known {
		return errors.New("it is named twice")
	}
	svc, l := &s.world.Services[i], s.lives[i]
	if *svc, err = in.Lifecycle(*svc); err != nil {
		return err
	}
	l.text, l.birth, l.removed, l.stale, l.ooms = in.Text, in.Birth, in.Removed, in.Stale, in.OOMs
	l.shown, l.changed, l.began, l.ready = svc.Phase, in.Changed, in.FirstAt, in.FirstUp
	l.left = in.Clients
	return l.descriptors.Restore(in, files)
}
