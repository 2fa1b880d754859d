package supervise

import (
	"context"
	"slices"
	"time"

	"resinos/services/control"
	"resinos/services/pid1"
	"resinos/services/spec"
	"resinos/services/supervise/handle"
	"resinos/services/supervise/lifecycle"
	"resinos/services/supervise/revision"
)

// Rescan reads the service files again and puts them into force: new services start, those whose file is gone or masks
// them stop, changed ones continue and follow their file from their next start on.
func (s *Supervisor) Rescan(ctx context.Context) (pid1.Rescanned, error) {
	if s.cfg.Load == nil {
		return pid1.Rescanned{}, &control.Error{Text: "service files cannot be read again here"}
	}
	list, faults := s.cfg.Load()
	var found pid1.Rescanned
	err := s.calls.Do(ctx, func() { found = s.applySpecs(list) })
	for _, f := range faults {
		found.Faults = append(found.Faults, f.Error())
	}
	return found, err
}

// adopt puts list into force.
func (s *Supervisor) applySpecs(list []spec.Spec) pid1.Rescanned {
	before := s.startable() // the revision says what is removed from now on
	known := make([]revision.Known, len(s.handles))
	for i, h := range s.handles {
		known[i] = revision.Known{Spec: &s.world.Specs[i], Removed: h.Removed, Stops: s.mustStop(i)}
	}
	r := revision.Compare(known, list)
	for i, f := range r.Fates {
		h := s.handles[i]
		h.Removed = f.Removed
		h.Stale = h.Stale || f.Changed && s.world.Services[i].Phase.Alive()
		if f.Reopen && len(h.Descriptors.Sockets) > 0 {
			s.disarm(h)
			h.Descriptors.CloseSockets(s.world.Specs[i].Listen)
		}
		if f.Forget {
			s.release(h)
		}
	}
	s.replaceSpecs(r.Specs, before, r.Changed)
	s.log.Info("service files read again", "added", len(r.Added), "changed", len(r.Changed), "removed", len(r.Removed))
	return pid1.Rescanned{Added: r.Added, Removed: r.Removed, Changed: r.Changed}
}

// fit returns for each service by name whether it may run.
func (s *Supervisor) startable() map[string]bool {
	fit := make(map[string]bool, len(s.handles))
	for i, h := range s.handles {
		fit[s.name(i)] = !s.world.Services[i].Broken && !h.Removed
	}
	return fit
}

// renew makes the world of list. It starts what is new in it and stops what may not run any more; before is the result
// of fit. Numbers of services change, so it must not run while an input is handled.
func (s *Supervisor) replaceSpecs(list []spec.Spec, before map[string]bool, changed []string) {
	ending := s.world.Ending
	s.rebuild(list)
	s.world.Ending = ending
	s.requests.TouchAll() // what they wait for may have become impossible
	s.refresh()
	for i := range s.world.Services {
		name, svc := s.name(i), &s.world.Services[i]
		switch known, good := before[name], !svc.Broken; {
		case s.handles[i].Removed || !good:
			s.do(s.world.Feed(time.Now(), i, lifecycle.Input{Event: lifecycle.Stop}))
		case !known: // new, there again, corrected or unmasked
			s.do(s.world.Ask(time.Now(), i, lifecycle.Want))
		case svc.Phase == lifecycle.Armed && slices.Contains(changed, name):
			s.do(s.world.Feed(time.Now(), i, lifecycle.Input{Event: lifecycle.Stop}))
			s.do(s.world.Ask(time.Now(), i, lifecycle.Want))
		}
	}
}

// bury forgets the services whose files are gone, once they have stopped.
func (s *Supervisor) forgetRemoved() {
	if !s.forgets || s.world.Ending {
		return
	}
	s.forgets = false
	var left []spec.Spec
	for i, h := range s.handles {
		if h.Removed && !s.mustStop(i) {
			s.log.Info("service forgotten", "service", s.name(i))
			s.release(h)
			continue
		}
		left = append(left, s.world.Specs[i])
	}
	if len(left) < len(s.handles) {
		s.replaceSpecs(left, s.startable(), nil)
	}
}

// leaves reports whether service i has something to be stopped.
func (s *Supervisor) mustStop(i int) bool {
	return s.world.Services[i].Phase.Alive() || s.world.Services[i].Phase == lifecycle.Armed
}

// part releases everything of a service, whose number becomes that of another.
func (s *Supervisor) release(h *handle.Handle) {
	s.disarm(h)
	h.Descriptors.CloseSockets(s.world.Specs[h.Num].Listen)
	h.Descriptors.CloseStored()
	delete(s.byID, h.ID)
	s.requests.Forget(h.ID)
}

// replan sets all deadlines, and has each service look at its neighbours, after the world was made from parts.
func (s *Supervisor) refresh() {
	for i := range s.world.Services {
		s.alarm.Plan(i, s.world.Services[i].Deadline)
	}
	s.do(s.world.Refresh(time.Now()))
}
