package workload

import (
	"slices"
	"time"

	"resinos/containers/app"
	"resinos/containers/health"
	"resinos/containers/plan"
	"resinos/containers/restart"
)

// input returns the current input of a plan.
func (m *Manager) input(state plan.State) plan.Input {
	in := plan.Input{Wanted: m.apps.Wanted, Alone: m.apps.Alone, State: state, Records: m.records,
		Down: m.down, Health: map[string]health.Status{}, Faults: map[string]error{}}
	if !slices.ContainsFunc(in.Wanted, func(w plan.Want) bool { return len(w.DependsOn)+len(w.Joins) > 0 }) {
		return in // the rest is not needed
	}
	v := m.view(state)
	for i := range in.Wanted {
		id := in.Wanted[i].ID()
		in.Health[id] = m.healthOf(id)
		if err := v.Fault(&in.Wanted[i], id); err != nil {
			in.Faults[id] = err
		}
	}
	return in
}

func (m *Manager) plan(state plan.State) []plan.Step { return plan.Make(m.input(state)) }

// await removes the Wait steps from a plan, and logs the new ones.
func (m *Manager) await(steps []plan.Step) []plan.Step {
	waits := map[string]plan.Step{}
	steps = slices.DeleteFunc(steps, func(s plan.Step) bool {
		if s.Verb == plan.Wait {
			waits[s.Container] = s
		}
		return s.Verb == plan.Wait
	})
	for id, s := range waits {
		switch {
		case m.waits[id].Why == s.Why:
		case s.Failed:
			m.c.Log.Warn("container is not started", "container", id, "why", s.Why)
		default:
			m.c.Log.Info("container is not started yet", "container", id, "why", s.Why)
		}
	}
	m.waits = waits
	return steps
}

// restartWithOthers requests the restart of containers with restart: true when one that they depend on is replaced, and
// of those that use a namespace of a container that was started again.
func (m *Manager) restartWithOthers(state plan.State) {
	if !slices.ContainsFunc(m.apps.Wanted, func(w plan.Want) bool {
		return len(w.Joins) > 0 || slices.ContainsFunc(w.DependsOn, func(d app.Dependency) bool { return d.Restart })
	}) {
		return
	}
	in := m.input(state)
	stale := plan.Stale(in)
	m.restartAfter(in, func(id string) bool { return stale[id] })
	for _, id := range plan.Parted(in) {
		if r := m.records[id]; r.Asked != restart.Restart && !stale[id] {
			m.c.Log.Info("container is restarted with one whose namespaces it uses", "container", id)
			m.record(id, r.Ask(restart.Restart))
		}
	}
}

// restartAfter requests the restart of the containers that depend in this way on changed ones.
func (m *Manager) restartAfter(in plan.Input, changed func(id string) bool) {
	for _, id := range plan.Restarts(in, changed) {
		if r := m.records[id]; r.Asked != restart.Restart && !changed(id) {
			m.c.Log.Info("container is restarted with one that it depends on", "container", id)
			m.record(id, r.Ask(restart.Restart))
		}
	}
}

// stopOrder stops containers before those that they depend on, when the device goes down.
type stopOrder struct {
	begun time.Time
	over  map[string]chan struct{} // by container: closed when it has ended
	after map[string][]string      // by container: those that depend on it
}

func (m *Manager) stopOrder(state plan.State) *stopOrder {
	o := &stopOrder{begun: time.Now(), over: map[string]chan struct{}{}, after: map[string][]string{}}
	for id := range state.Containers {
		o.over[id] = make(chan struct{})
		for other := range state.Containers {
			if len(state.Containers[other].Depends) > 0 && state.Needs(other, id) && !state.Needs(id, other) {
				o.after[id] = append(o.after[id], other)
			}
		}
	}
	return o
}

func (o *stopOrder) ended(id string) { close(o.over[id]) }

// turn waits until the containers that depend on this one have ended, for at most half of the remaining time, and
// returns the time that is left.
func (o *stopOrder) turn(id string) time.Duration {
	half := time.After(time.Until(o.begun.Add(stopLimit / 2)))
	for _, other := range o.after[id] {
		select {
		case <-o.over[other]:
			continue
		case <-half:
		}
		break
	}
	return time.Until(o.begun.Add(stopLimit))
}
