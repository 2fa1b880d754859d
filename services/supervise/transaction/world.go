// Package transaction decides about all services together. One input to one service is one transaction: every affected
// service takes its steps until none has a decision left. The package applies the steps of package lifecycle and is
// pure like it; it carries nothing out. Read World first.
package transaction

import (
	"slices"
	"time"

	"resinos/services/graph"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
)

// standing is the part of a service's state that matters to its neighbours (the services that need, want, follow or
// conflict with it). They decide by it alone.
type standing uint8

const (
	gone     standing = iota // will not be up: it is stopping, not requested, failed, or one of its own needs is gone
	pending                  // starting for the first time
	retrying                 // starting again, or waiting for a need that is
	serving                  // up, or armed, or a oneshot that is done
)

// Action is one act for one service.
type Action struct {
	Act     lifecycle.Act
	Service int
}

// World holds all services and their dependencies. One Feed is one transaction, which repeats two phases: first the
// standings of all services are updated; then one service decides, the first in start order that has something to
// decide. Its step may change standings again. The transaction ends when no service has anything to decide. No service
// therefore ever decides by outdated standings.
//
// "needs": a service starts only while all its needs are serving. If a need crashes and is started again, its
// dependants keep running. If a need is gone (stopped, failed, or its own needs are gone), its dependants stop first,
// in reverse order; they stay requested and start again with the need. "wants" and "after": the start waits until the
// other service is serving, retrying or gone; and if both are stopping, the other one waits until this one has stopped.
// "conflicts": of two services that conflict at most one is requested, the one that was requested last (at the boot:
// the first in order); it starts when the other one is gone.
type World struct {
	Graph    *graph.Graph
	Specs    []spec.Spec // by number in graph
	Services []lifecycle.Service
	stands   []standing
	Ending   bool // shutdown: nothing may be requested any more

	facts   queue // services whose standing must be computed
	decide  queue // services that must decide; the lowest is taken first
	Changed []int // services whose state has changed since the caller last looked
	actions []Action
}

// Setting is what the timers of services depend on.
type Setting struct {
	Epoch time.Time // when the kernel started
	Seed  uint32    // of the device, for random delays
}

// New returns a World in which every service is down and none is requested. g is the order of specs.
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

// UpdateBroken sets whether service i can run at all, by its file and by faults of the order.
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

// Feed applies in to service i and lets all services decide. It returns the actions, in order; the slice is valid until
// the next call.
func (w *World) Feed(at time.Time, i int, in lifecycle.Input) []Action {
	w.actions = w.actions[:0]
	w.apply(at, i, in)
	w.settle(at)
	return w.actions
}

// Ask requests i, and the services that it needs and wants, as far as they are not requested yet. It withdraws the
// request for services that conflict with one of them, unless i itself needs them.
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

// withdraw withdraws the request for services that conflict with i and for which may returns true.
func (w *World) withdraw(at time.Time, i int, may func(int) bool) {
	for _, foe := range w.Graph.Conflicts[i] {
		if w.Services[foe].Wanted && may(foe) {
			w.apply(at, foe, lifecycle.Input{Event: lifecycle.Stop})
		}
	}
}

// rival returns a requested service that conflicts with i; -1 if there is none.
func (w *World) rival(i int) int {
	for _, foe := range w.Graph.Conflicts[i] {
		if w.Services[foe].Wanted {
			return foe
		}
	}
	return -1
}

// wants lists the services that i wants, without those that it only follows (after).
func (w *World) wants(i int) []int {
	var out []int
	for _, j := range w.Graph.Soft[i] {
		if slices.Contains(w.Specs[i].Wants, w.Graph.Names[j]) {
			out = append(out, j)
		}
	}
	return out
}

// Begin requests all services at once, so that each knows of all others from the beginning.
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

// End withdraws all requests, for good.
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

// settle updates the standings, lets one service decide, and repeats this until none has to decide.
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

// wake makes the services decide again that depend on the standing of i.
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
		if w.anyNeed(i, gone) { // it has not decided to stop yet, but it will
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
	switch { // waiting, starting, backoff: a gone need counts in the same way
	case w.anyNeed(i, gone):
		return gone
	case s.Tries > 1 || s.Failures > 0 || s.Phase == lifecycle.Backoff || w.anyNeed(i, retrying):
		return retrying
	}
	return pending
}

// Gone reports whether the standing of service i is gone.
func (w *World) Gone(i int) bool { return w.stands[i] == gone }

func (w *World) anyNeed(i int, s standing) bool {
	return slices.ContainsFunc(w.Graph.Needs[i], func(j int) bool { return w.stands[j] == s })
}

// gate returns what the standings of its neighbours mean for i: whether it may start or must stop.
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

// Reason returns in words why i is not up, for people.
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

// Refresh computes all standings and makes all services decide, after the world was assembled from parts.
func (w *World) Refresh(at time.Time) []Action {
	w.actions = w.actions[:0]
	for i := range w.Services {
		w.stands[i] = w.stand(i) // the services that it depends on come before it
		w.decide.add(i)
	}
	w.settle(at)
	return w.actions
}
