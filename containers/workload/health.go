package workload

import (
	"maps"
	"slices"

	"resinos/containers/health"
	"resinos/containers/plan"
)

// applyHealth starts the checks of running containers, and ends those of all others.
func (m *Manager) applyHealth(state plan.State) {
	if m.c.Health == nil {
		return
	}
	var list []health.Subject
	for _, id := range slices.Sorted(maps.Keys(state.Containers)) {
		if have := state.Containers[id]; have.Task == plan.Running && have.Check != nil {
			list = append(list, health.Subject{ID: id, PID: have.PID, Check: *have.Check, Frozen: have.Paused})
		}
	}
	m.c.Health.Want(list)
}

// healthOf returns the health of a container; empty if it has no check.
func (m *Manager) healthOf(id string) health.Status {
	if m.c.Health == nil {
		return ""
	}
	s, _ := m.c.Health.State(id)
	return s.Status
}

func (m *Manager) healthChanged() <-chan struct{} {
	if m.c.Health == nil {
		return nil
	}
	return m.c.Health.Changed()
}
