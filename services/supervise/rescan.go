package supervise

import (
	"context"
	"reflect"
	"slices"
	"time"

	"resinos/services/control"
	"resinos/services/pid1"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
)

// Rescan reads the service files again and makes them the ones in force: new services start,
// those whose file is gone or masks them stop, changed ones run on and are what their file says
// from their next start on.
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

// adopt takes list for what is to run.
func (s *Supervisor) adopt(list []spec.Spec) (found pid1.Rescanned) {
	before := s.fit() // compare says what is removed from now on
	kept := s.compare(list, &found)
	s.renew(append(slices.Clone(list), kept...), before, found.Changed)
	s.log.Info("service files read again", "added", len(found.Added), "changed", len(found.Changed), "removed", len(found.Removed))
	return found
}

// fit tells of each service by name whether it may run.
func (s *Supervisor) fit() map[string]bool {
	fit := make(map[string]bool, len(s.lives))
	for i, l := range s.lives {
		fit[s.name(i)] = !s.world.Services[i].Broken && !l.removed
	}
	return fit
}

// renew makes the world of list, and has begin and end what is new in it and what is fit no more; before is what was fit. Numbers
// change: it must not run while an input is dealt with.
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
		case !known: // new, there again, mended or unmasked
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

// part lets go of a life that nobody will look at again: its number is another's from now on.
func (s *Supervisor) part(l *life) {
	s.disarm(l)
	l.descriptors.CloseSockets(s.world.Specs[l.num].Listen)
	l.descriptors.Close()
	delete(s.byID, l.id)
	s.requests.Forget(l.id)
}

// compare tells what list changes and returns the definitions of services that are in it no more
// but have something to be stopped.
func (s *Supervisor) compare(list []spec.Spec, found *pid1.Rescanned) (kept []spec.Spec) {
	wanted := make(map[string]*spec.Spec, len(list))
	for i := range list {
		wanted[list[i].Name] = &list[i]
		if _, known := s.index[list[i].Name]; !known {
			found.Added = append(found.Added, list[i].Name)
		}
	}
	for i := range s.world.Specs {
		old, l := s.world.Specs[i], s.lives[i]
		now := wanted[old.Name]
		switch {
		case now == nil && !l.removed:
			found.Removed = append(found.Removed, old.Name)
		case now == nil:
		case l.removed:
			found.Added = append(found.Added, old.Name) // there again
			s.reopen(old, *now, l)
		case !reflect.DeepEqual(*now, old):
			found.Changed = append(found.Changed, old.Name)
			l.stale = l.stale || s.world.Services[i].Phase.Alive()
			s.reopen(old, *now, l)
		}
		if l.removed = now == nil; !l.removed {
			continue
		}
		if s.leaves(i) {
			old.Needs, old.Wants, old.After = nil, nil, nil // it only leaves
			kept = append(kept, old)
			continue
		}
		s.part(l)
	}
	slices.Sort(found.Added)
	return kept
}

// reopen closes sockets that the service's file does not name any more as it did.
func (s *Supervisor) reopen(old, now spec.Spec, l *life) {
	if len(l.descriptors.Sockets) == 0 || reflect.DeepEqual(old.Listen, now.Listen) {
		return
	}
	s.disarm(l)
	l.descriptors.CloseSockets(old.Listen)
}

// replan makes everybody look at everybody after the world was made anew, and sets all deadlines.
func (s *Supervisor) replan() {
	for i := range s.world.Services {
		s.alarm.Plan(i, s.world.Services[i].Deadline)
	}
	s.do(s.world.Refresh(time.Now()))
}
