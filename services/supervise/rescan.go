package supervise

import (
	"context"
	"slices"
	"time"

	"resinos/services/control"
	"resinos/services/pid1"
	"resinos/services/spec"
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
	err := s.calls.Do(ctx, func() { found = s.adopt(list) })
	for _, f := range faults {
		found.Faults = append(found.Faults, f.Error())
	}
	return found, err
}

// adopt puts list into force.
func (s *Supervisor) adopt(list []spec.Spec) pid1.Rescanned {
	before := s.fit() // the revision says what is removed from now on
	known := make([]revision.Known, len(s.lives))
	for i, l := range s.lives {
		known[i] = revision.Known{Spec: &s.world.Specs[i], Removed: l.removed, Stops: s.leaves(i)}
	}
	r := revision.Compare(known, list)
	for i, f := range r.Fates {
		l := s.lives[i]
		l.removed = f.Removed
		l.stale = l.stale || f.Changed && s.world.Services[i].Phase.Alive()
		if f.Reopen && len(l.descriptors.Sockets) > 0 {
			s.disarm(l)
			l.descriptors.CloseSockets(s.world.Specs[i].Listen)
		}
		if f.Forget {
			s.part(l)
		}
	}
	s.renew(r.Specs, before, r.Changed)
	s.log.Info("service files read again", "added", len(r.Added), "changed", len(r.Changed), "removed", len(r.Removed))
	return pid1.Rescanned{Added: r.Added, Removed: r.Removed, Changed: r.Changed}
}

// fit returns for each service by name whether it may run.
func (s *Supervisor) fit() map[string]bool {
	fit := make(map[string]bool, len(s.lives))
	for i, l := range s.lives {
		fit[s.name(i)] = !s.world.Services[i].Broken && !l.removed
	}
	return fit
}

// renew makes the world of list. It starts what is new in it and stops what may not run any more; before is the result
// of fit. Numbers of services change, so it must not run while an input is handled.
func (s *Supervisor) renew(list []spec.Spec, before map[string]bool, changed []string) {
	ending := s.world.Ending
	s.settle(list)
	s.world.Ending = ending
	s.requests.TouchAll() // what they wait for may have become impossible
	s.replan()
	for i := range s.world.Services {
		name, svc := s.name(i), &s.world.Services[i]
		switch known, good := before[name], !svc.Broken; {
		case s.lives[i].removed || !good:
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
func (s *Supervisor) bury() {
	if !s.buries || s.world.Ending {
		return
	}
	s.buries = false
	var left []spec.Spec
	for i, l := range s.lives {
		if l.removed && !s.leaves(i) {
			s.log.Info("service forgotten", "service", s.name(i))
			s.part(l)
			continue
		}
		left = append(left, s.world.Specs[i])
	}
	if len(left) < len(s.lives) {
		s.renew(left, s.fit(), nil)
	}
}

// leaves reports whether service i has something to be stopped.
func (s *Supervisor) leaves(i int) bool {
	return s.world.Services[i].Phase.Alive() || s.world.Services[i].Phase == lifecycle.Armed
}

// part releases everything of a service, whose number becomes that of another.
func (s *Supervisor) part(l *life) {
	s.disarm(l)
	l.descriptors.CloseSockets(s.world.Specs[l.num].Listen)
	l.descriptors.Close()
	delete(s.byID, l.id)
	s.requests.Forget(l.id)
}

// replan sets all deadlines, and has each service look at its neighbours, after the world was made from parts.
func (s *Supervisor) replan() {
	for i := range s.world.Services {
		s.alarm.Plan(i, s.world.Services[i].Deadline)
	}
	s.do(s.world.Refresh(time.Now()))
}
