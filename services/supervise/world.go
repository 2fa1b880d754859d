package supervise

import (
	"slices"
	"time"

	"resinos/services/graph"
	"resinos/services/spec"
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

// action is one act for one service.
type action struct {
	act act
	svc int
}

// world is all services with what ties them. One feed is one transaction in two phases: the facts
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
type world struct {
	graph  *graph.Graph
	specs  []spec.Spec // by number in graph
	svcs   []service
	stands []standing
	ending bool // shutdown: nobody may be asked for any more

	facts   queue // whose standing must be looked at
	decide  queue // who must look at its neighbours; taken lowest first
	changed []int // whose state moved since the caller last looked
	actions []action
}

// setting is what the timers of services count from.
type setting struct {
	epoch time.Time // when the kernel started
	seed  uint32    // of the device, for random delays
}

func newWorld(g *graph.Graph, specs []spec.Spec, at time.Time, set setting) *world {
	n := len(g.Names)
	w := &world{graph: g, specs: specs, svcs: make([]service, n), stands: make([]standing, n)}
	for i := range w.svcs {
		w.svcs[i] = service{phase: down, since: at, epoch: set.epoch, seed: set.seed}
		w.mend(i)
	}
	w.facts.grow(n)
	w.decide.grow(n)
	return w
}

// mend makes service i what its file and its place in the order say: fit to run, or not.
func (w *world) mend(i int) {
	s := &w.svcs[i]
	reason := w.graph.Broken[i]
	if w.specs[i].Masked {
		reason = "masked by its service file"
	}
	s.broken = reason != ""
	if s.broken && !s.phase.alive() {
		s.phase, s.wanted, s.why = failed, false, reason
		if w.specs[i].Masked {
			s.phase = down
		}
	}
}

// feed applies in to service i and lets everybody react. It returns what to do, in order; the
// slice is good until the next feed.
func (w *world) feed(at time.Time, i int, in input) []action {
	w.actions = w.actions[:0]
	w.apply(at, i, in)
	w.settle(at)
	return w.actions
}

// ask asks for i and for everything it needs and wants that is not yet asked for. Whoever
// conflicts with one of them is not asked for any more, unless i itself needs it.
func (w *world) ask(at time.Time, i int, e event) []action {
	w.actions = w.actions[:0]
	if w.ending {
		return nil
	}
	seen := map[int]bool{i: true}
	for list := []int{i}; len(list) > 0; list = list[1:] {
		j := list[0]
		w.withdraw(at, j, func(foe int) bool { return !seen[foe] })
		switch {
		case j == i:
			w.apply(at, j, input{event: e})
		case w.rival(j) >= 0:
		case !w.svcs[j].wanted || w.svcs[j].phase == failed || w.svcs[j].phase == skipped:
			w.apply(at, j, input{event: want})
		}
		for _, k := range slices.Concat(w.graph.Needs[j], w.wants(j)) {
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
func (w *world) withdraw(at time.Time, i int, may func(int) bool) {
	for _, foe := range w.graph.Conflicts[i] {
		if w.svcs[foe].wanted && may(foe) {
			w.apply(at, foe, input{event: stop})
		}
	}
}

// rival names a service that is asked for and conflicts with i; -1 when there is none.
func (w *world) rival(i int) int {
	for _, foe := range w.graph.Conflicts[i] {
		if w.svcs[foe].wanted {
			return foe
		}
	}
	return -1
}

// wants lists the soft dependencies of i that it wants, not those it only comes after.
func (w *world) wants(i int) []int {
	var out []int
	for _, j := range w.graph.Soft[i] {
		if slices.Contains(w.specs[i].Wants, w.graph.Names[j]) {
			out = append(out, j)
		}
	}
	return out
}

// begin asks for everything at once, so that all see all of it coming.
func (w *world) begin(at time.Time) []action {
	w.actions = w.actions[:0]
	for i := range w.svcs {
		if r := w.rival(i); r >= 0 {
			w.svcs[i].why = "conflicts with " + w.graph.Names[r] + ", which comes first"
			continue
		}
		w.apply(at, i, input{event: want})
	}
	w.settle(at)
	return w.actions
}

// end asks for nothing any more, for good.
func (w *world) end(at time.Time) []action {
	w.actions, w.ending = w.actions[:0], true
	for i := range w.svcs {
		w.apply(at, i, input{event: stop})
	}
	w.settle(at)
	return w.actions
}

// alive lists the services that may have a process.
func (w *world) alive() []int {
	var out []int
	for i := range w.svcs {
		if w.svcs[i].phase.alive() {
			out = append(out, i)
		}
	}
	return out
}

// apply commits one step of one service.
func (w *world) apply(at time.Time, i int, in input) {
	before := w.svcs[i]
	after, acts := step(at, &w.specs[i], before, in)
	if after == before {
		return
	}
	w.svcs[i] = after
	w.changed = append(w.changed, i)
	for _, a := range acts {
		w.actions = append(w.actions, action{a, i})
	}
	w.facts.add(i)
	w.decide.add(i)
	if before.phase.alive() != after.phase.alive() {
		w.wake(i)
	}
}

// settle brings the facts up to date, lets one decide, and begins again until nobody has to.
func (w *world) settle(at time.Time) {
	for {
		for i, ok := w.facts.take(); ok; i, ok = w.facts.take() {
			w.fact(i)
		}
		i, ok := w.decide.take()
		if !ok {
			return
		}
		if e := w.gate(i); e != none {
			w.apply(at, i, input{event: e})
		}
	}
}

func (w *world) fact(i int) {
	s := w.stand(i)
	if s == w.stands[i] {
		return
	}
	w.stands[i] = s
	for _, j := range w.graph.NeededBy[i] {
		w.facts.add(j)
	}
	w.wake(i)
}

// wake lets everybody who looks at i decide anew.
func (w *world) wake(i int) {
	for _, list := range [...][]int{w.graph.NeededBy[i], w.graph.SoftBy[i], w.graph.Needs[i], w.graph.Soft[i], w.graph.Conflicts[i]} {
		for _, j := range list {
			w.decide.add(j)
		}
	}
}

// stand computes the standing of i from its own state and the standings of its needs.
func (w *world) stand(i int) standing {
	s := &w.svcs[i]
	switch s.phase {
	case up, armed:
		if w.anyNeed(i, gone) { // it has not decided yet, but it will
			return gone
		}
		return serving
	case done:
		if w.specs[i].Type == spec.Oneshot {
			return serving
		}
		return gone
	case down, failed, skipped, leaving:
		return gone
	case stopping, killing, clearing:
		if !s.wanted || s.going && w.anyNeed(i, gone) {
			return gone
		}
		return retrying
	}
	switch { // waiting, starting, backoff: the same holds for a gone need
	case w.anyNeed(i, gone):
		return gone
	case s.tries > 1 || s.failures > 0 || s.phase == backoff || w.anyNeed(i, retrying):
		return retrying
	}
	return pending
}

func (w *world) anyNeed(i int, s standing) bool {
	return slices.ContainsFunc(w.graph.Needs[i], func(j int) bool { return w.stands[j] == s })
}

// gate looks at the neighbours of i and says what they mean for it.
func (w *world) gate(i int) event {
	switch w.svcs[i].phase {
	case waiting:
		for _, j := range w.graph.Needs[i] {
			if w.stands[j] != serving {
				return none
			}
		}
		for _, j := range w.graph.Soft[i] {
			if w.stands[j] == pending {
				return none
			}
		}
		for _, j := range w.graph.Conflicts[i] {
			if w.svcs[j].phase.alive() {
				return none
			}
		}
		return clear
	case starting, up, armed:
		if w.anyNeed(i, gone) {
			return lost
		}
	case leaving:
		for _, j := range w.graph.NeededBy[i] {
			if w.svcs[j].phase.alive() {
				return none
			}
		}
		for _, j := range w.graph.SoftBy[i] {
			if w.svcs[j].phase.alive() && w.stands[j] == gone {
				return none
			}
		}
		return clear
	}
	return none
}

// reason says in words why i is not up, for people.
func (w *world) reason(i int) string {
	s := &w.svcs[i]
	if s.phase == waiting {
		for _, j := range w.graph.Needs[i] {
			if w.stands[j] != serving {
				return "needs " + w.graph.Names[j] + ", which is " + w.svcs[j].phase.String()
			}
		}
		for _, j := range w.graph.Soft[i] {
			if w.stands[j] == pending {
				return "comes after " + w.graph.Names[j] + ", which is " + w.svcs[j].phase.String()
			}
		}
		for _, j := range w.graph.Conflicts[i] {
			if w.svcs[j].phase.alive() {
				return "conflicts with " + w.graph.Names[j] + ", which is " + w.svcs[j].phase.String()
			}
		}
	}
	if s.phase == up || s.phase == done || s.phase == armed && !s.spoiled {
		return ""
	}
	return s.why
}

// refresh has everybody look at everybody, after the world was made from parts.
func (w *world) refresh(at time.Time) []action {
	w.actions = w.actions[:0]
	for i := range w.svcs {
		w.stands[i] = w.stand(i) // those it depends on come before it
		w.decide.add(i)
	}
	w.settle(at)
	return w.actions
}
