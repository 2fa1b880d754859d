// Package transaction decides about all services together: one input to one service is one transaction, in which every
// service that is affected takes its steps until nobody has anything left to decide. It is pure, as package lifecycle
// is, whose steps it applies; it carries nothing out. Read World first.
package transaction

import (
	"slices"
	"time"

	"resinos/services/graph"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
)

// standing is what the neighbours of a service may know of it. All that one service decides about
// another follows from it.
type standing uint8

const (
	gone     standing = iota // not coming: it leaves, rests, gave up, or one of its own needs is gone
	pending                  // on its way up for the first time
	retrying                 // on its way up again, or waiting for one that is
	serving                  // up, or armed, or a oneshot that is done
)

// Action is one act for one service.
type Action struct {
	Act     lifecycle.Act
	Service int
}

// World is all services with what ties them. One feed is one transaction in two phases: the facts
// (who stands how) are first brought up to date everywhere, and only then does one service
// decide, the one nearest to the roots first; its step is a new fact, and so on until nobody has
// anything to decide. So no service ever decides on half-updated facts.
//
// What "needs" means: a service starts only while all its needs serve. A need that crashed and is
// on its way back leaves its dependants alone. A need that is gone (stopped, given up, or its own
// needs are gone) takes its dependants down first, in reverse order; they stay asked for and come
// back with it. What "wants" and "after" mean: the start waits until the other one serves, is
// retrying or is gone, and the stop of the other one waits until this one, if it is leaving too,
// has left. What "conflicts" means: of two that conflict at most one is asked for, the one that was
// asked for last (at the boot: the first in order), and it starts when the other is gone.
type World struct {
	Graph    *graph.Graph
	Specs    []spec.Spec // by number in graph
	Services []lifecycle.Service
	stands   []standing
	Ending   bool // shutdown: nobody may be asked for any more

	facts   queue // whose standing must be looked at
	decide  queue // who must look at its neighbours; taken lowest first
	Changed []int // whose state moved since the caller last looked
	actions []Action
}

// Setting is what the timers of services count from.
type Setting struct {
	Epoch time.Time // when the kernel started
	Seed  uint32    // of the device, for random delays
}

// New returns a World in which every service is down and nobody is asked for. g is the order of specs.
func New(g *graph.Graph, specs []spec.Spec, at time.Time, set Setting) *World {
	n := len(g.Names)
	w := &World{Graph: g, Specs: specs, Services: make([]lifecycle.Service, n), stands: make([]standing, n)}
	for i := range w.Services {
		w.Services[i] = lifecycle.Service{Phase: lifecycle.Down, Since: at, Epoch: set.Epoch, Seed: set.Seed}
		w.UpdateBroken(i)
	}
	w.facts.grow(n)
	w.decide.grow(n)
	return w
}

// UpdateBroken makes service i what its file and its place in the order say: fit to run, or not.
func (w *World) UpdateBroken(i int) {
	s := &w.Services[i]
	reason := w.Graph.Broken[i]
	if w.Specs[i].Masked {
		reason = "masked by its service file"
	}
	s.Broken = reason != ""
	if s.Broken && !s.Phase.Alive() {
		s.Phase, s.Wanted, s.Why = lifecycle.Failed, false, reason
		if w.Specs[i].Masked {
			s.Phase = lifecycle.Down
		}
	}
}

// Feed applies in to service i and lets everybody react. It returns what to do, in order; the
// slice is good until the next feed.
func (w *World) Feed(at time.Time, i int, in lifecycle.Input) []Action {
	w.actions = w.actions[:0]
	w.apply(at, i, in)
	w.settle(at)
	return w.actions
}

// Ask asks for i and for everything it needs and wants that is not yet asked for. Whoever
// conflicts with one of them is not asked for any more, unless i itself needs it.
func (w *World) Ask(at time.Time, i int, e lifecycle.Event) []Action {
	w.actions = w.actions[:0]
	if w.Ending {
		return nil
	}
	seen := map[int]bool{i: true}
	for list := []int{i}; len(list) > 0; list = list[1:] {
		j := list[0]
		w.withdraw(at, j, func(foe int) bool { return !seen[foe] })
		switch {
		case j == i:
			w.apply(at, j, lifecycle.Input{Event: e})
		case w.rival(j) >= 0:
		case !w.Services[j].Wanted || w.Services[j].Phase == lifecycle.Failed ||
			w.Services[j].Phase == lifecycle.Skipped:
			w.apply(at, j, lifecycle.Input{Event: lifecycle.Want})
		}
		for _, k := range slices.Concat(w.Graph.Needs[j], w.wants(j)) {
			if !seen[k] {
				seen[k] = true
				list = append(list, k)
			}
		}
	}
	w.settle(at)
	return w.actions
}

// withdraw takes back the wish for those that conflict with i, as far as may says.
func (w *World) withdraw(at time.Time, i int, may func(int) bool) {
	for _, foe := range w.Graph.Conflicts[i] {
		if w.Services[foe].Wanted && may(foe) {
			w.apply(at, foe, lifecycle.Input{Event: lifecycle.Stop})
		}
	}
}

// rival names a service that is asked for and conflicts with i; -1 when there is none.
func (w *World) rival(i int) int {
	for _, foe := range w.Graph.Conflicts[i] {
		if w.Services[foe].Wanted {
			return foe
		}
	}
	return -1
}

// wants lists the soft dependencies of i that it wants, not those it only comes after.
func (w *World) wants(i int) []int {
	var out []int
	for _, j := range w.Graph.Soft[i] {
		if slices.Contains(w.Specs[i].Wants, w.Graph.Names[j]) {
			out = append(out, j)
		}
	}
	return out
}

// Begin asks for everything at once, so that all see all of it coming.
func (w *World) Begin(at time.Time) []Action {
	w.actions = w.actions[:0]
	for i := range w.Services {
		if r := w.rival(i); r >= 0 {
			w.Services[i].Why = "conflicts with " + w.Graph.Names[r] + ", which comes first"
			continue
		}
		w.apply(at, i, lifecycle.Input{Event: lifecycle.Want})
	}
	w.settle(at)
	return w.actions
}

// End asks for nothing any more, for good.
func (w *World) End(at time.Time) []Action {
	w.actions, w.Ending = w.actions[:0], true
	for i := range w.Services {
		w.apply(at, i, lifecycle.Input{Event: lifecycle.Stop})
	}
	w.settle(at)
	return w.actions
}

// Alive lists the services that may have a process.
func (w *World) Alive() []int {
	var out []int
	for i := range w.Services {
		if w.Services[i].Phase.Alive() {
			out = append(out, i)
		}
	}
	return out
}

// apply commits one step of one service.
func (w *World) apply(at time.Time, i int, in lifecycle.Input) {
	before := w.Services[i]
	after, acts := lifecycle.Step(at, &w.Specs[i], before, in)
	if after == before {
		return
	}
	w.Services[i] = after
	w.Changed = append(w.Changed, i)
	for _, a := range acts {
		w.actions = append(w.actions, Action{a, i})
	}
	w.facts.add(i)
	w.decide.add(i)
	if before.Phase.Alive() != after.Phase.Alive() {
		w.wake(i)
	}
}

// settle brings the facts up to date, lets one decide, and begins again until nobody has to.
func (w *World) settle(at time.Time) {
	for {
		for i, ok := w.facts.take(); ok; i, ok = w.facts.take() {
			w.fact(i)
		}
		i, ok := w.decide.take()
		if !ok {
			return
		}
		if e := w.gate(i); e != lifecycle.None {
			w.apply(at, i, lifecycle.Input{Event: e})
		}
	}
}

func (w *World) fact(i int) {
	s := w.stand(i)
	if s == w.stands[i] {
		return
	}
	w.stands[i] = s
	for _, j := range w.Graph.NeededBy[i] {
		w.facts.add(j)
	}
	w.wake(i)
}

// wake lets everybody who looks at i decide anew.
func (w *World) wake(i int) {
	for _, list := range [...][]int{w.Graph.NeededBy[i], w.Graph.SoftBy[i], w.Graph.Needs[i], w.Graph.Soft[i],
		w.Graph.Conflicts[i]} {
		for _, j := range list {
			w.decide.add(j)
		}
	}
}

// stand computes the standing of i from its own state and the standings of its needs.
func (w *World) stand(i int) standing {
	s := &w.Services[i]
	switch s.Phase {
	case lifecycle.Up, lifecycle.Armed:
		if w.anyNeed(i, gone) { // it has not decided yet, but it will
			return gone
		}
		return serving
	case lifecycle.Done:
		if w.Specs[i].Type == spec.Oneshot {
			return serving
		}
		return gone
	case lifecycle.Down, lifecycle.Failed, lifecycle.Skipped, lifecycle.Leaving:
		return gone
	case lifecycle.Stopping, lifecycle.Killing, lifecycle.Clearing:
		if !s.Wanted || s.Going && w.anyNeed(i, gone) {
			return gone
		}
		return retrying
	}
	switch { // waiting, starting, backoff: the same holds for a gone need
	case w.anyNeed(i, gone):
		return gone
	case s.Tries > 1 || s.Failures > 0 || s.Phase == lifecycle.Backoff || w.anyNeed(i, retrying):
		return retrying
	}
	return pending
}

// Gone reports whether service i is not coming: see standing.
func (w *World) Gone(i int) bool { return w.stands[i] == gone }

func (w *World) anyNeed(i int, s standing) bool {
	return slices.ContainsFunc(w.Graph.Needs[i], func(j int) bool { return w.stands[j] == s })
}

// gate looks at the neighbours of i and says what they mean for it.
func (w *World) gate(i int) lifecycle.Event {
	switch w.Services[i].Phase {
	case lifecycle.Waiting:
		for _, j := range w.Graph.Needs[i] {
			if w.stands[j] != serving {
				return lifecycle.None
			}
		}
		for _, j := range w.Graph.Soft[i] {
			if w.stands[j] == pending {
				return lifecycle.None
			}
		}
		for _, j := range w.Graph.Conflicts[i] {
			if w.Services[j].Phase.Alive() {
				return lifecycle.None
			}
		}
		return lifecycle.Clear
	case lifecycle.Starting, lifecycle.Up, lifecycle.Armed:
		if w.anyNeed(i, gone) {
			return lifecycle.Lost
		}
	case lifecycle.Leaving:
		for _, j := range w.Graph.NeededBy[i] {
			if w.Services[j].Phase.Alive() {
				return lifecycle.None
			}
		}
		for _, j := range w.Graph.SoftBy[i] {
			if w.Services[j].Phase.Alive() && w.stands[j] == gone {
				return lifecycle.None
			}
		}
		return lifecycle.Clear
	}
	return lifecycle.None
}

// Reason says in words why i is not up, for people.
func (w *World) Reason(i int) string {
	s := &w.Services[i]
	if s.Phase == lifecycle.Waiting {
		for _, j := range w.Graph.Needs[i] {
			if w.stands[j] != serving {
				return "needs " + w.Graph.Names[j] + ", which is " + w.Services[j].Phase.String()
			}
		}
		for _, j := range w.Graph.Soft[i] {
			if w.stands[j] == pending {
				return "comes after " + w.Graph.Names[j] + ", which is " + w.Services[j].Phase.String()
			}
		}
		for _, j := range w.Graph.Conflicts[i] {
			if w.Services[j].Phase.Alive() {
				return "conflicts with " + w.Graph.Names[j] + ", which is " + w.Services[j].Phase.String()
			}
		}
	}
	if s.Phase == lifecycle.Up || s.Phase == lifecycle.Done || s.Phase == lifecycle.Armed && !s.Spoiled {
		return ""
	}
	return s.Why
}

// Refresh has everybody look at everybody, after the world was made from parts.
func (w *World) Refresh(at time.Time) []Action {
	w.actions = w.actions[:0]
	for i := range w.Services {
		w.stands[i] = w.stand(i) // those it depends on come before it
		w.decide.add(i)
	}
	w.settle(at)
	return w.actions
}
