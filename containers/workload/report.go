package workload

import (
	"fmt"
	"time"

	"resinos/containers/appstatus"
	"resinos/containers/appview"
	"resinos/containers/plan"
)

const forever = appview.Forever

// reporter publishes the status of the apps. The zero reporter is ready. It belongs to the goroutine of Run.
type reporter struct {
	last    appstatus.Status
	read    bool              // last is the status that an earlier manager published, or a newer one
	errors  map[string]error  // by container: why its steps failed
	kills   map[string]int    // by container: Have.Kills when it was last looked at
	since   map[string]moment // since when each state and each trouble holds, by its subject
	trouble appstatus.Trouble
	failed  bool // the last publication failed, and that was logged
}

// moment is a state and the time since when it holds.
type moment struct {
	how string
	at  float64
}

// noteKills logs which containers had processes killed since the last look because memory ran out.
func (m *Manager) noteKills(state plan.State) {
	kills := map[string]int{}
	for id, have := range state.Containers {
		kills[id] = have.Kills
		if m.workers.busy[id] {
			// the cgroup may be gone before the end of the container is recorded
			kills[id] = max(have.Kills, m.report.kills[id])
		}
		if n := have.Kills - m.report.kills[id]; n > 0 {
			m.c.Log.Error("container out of memory", "app", have.App, "container", id, "count", n)
			if m.c.Event != nil {
				m.c.Event(id, "oom", fmt.Sprintf("%d processes killed", n))
			}
		}
	}
	m.report.kills = kills
}

// noteEnd records the result of the steps of a container.
func (m *Manager) noteEnd(id string, err error) {
	if m.report.errors == nil {
		m.report.errors = map[string]error{}
	}
	if m.report.errors[id] = err; err == nil {
		delete(m.report.errors, id)
	}
}

// trouble sets the trouble of the manager itself; an empty cause ends it.
func (m *Manager) setTrouble(cause appstatus.Cause, err error) {
	m.report.trouble = appstatus.Trouble{Cause: cause}
	if err != nil {
		m.report.trouble.Reason = err.Error()
	}
}

// publish writes the status of all apps if it has changed, and returns the time until it changes by itself.
func (m *Manager) publish(state plan.State) time.Duration {
	if m.c.Status == "" {
		return forever
	}
	v := m.view(state)
	m.tell(appstatus.Status{Apps: v.All(), Trouble: m.report.trouble})
	return v.Settles()
}

func (m *Manager) view(state plan.State) appview.View {
	v := appview.View{Apps: m.apps, State: state, Records: m.records, Errors: m.report.errors, Now: m.now(),
		Pulls: m.c.Pulls.Status, Health: m.healthOf, Waits: m.waits}
	if m.workers != nil {
		v.Busy = m.workers.busy
	}
	return v
}

// publishTrouble writes the trouble of the manager itself, with the last known status of the apps.
func (m *Manager) publishTrouble() {
	if m.c.Status != "" {
		m.report.recall(m.c.Status)
		m.tell(appstatus.Status{Apps: m.report.last.Apps, Trouble: m.report.trouble})
	}
}

func (m *Manager) tell(s appstatus.Status) {
	m.report.recall(m.c.Status)
	s.Written = m.now().Seconds()
	m.report.date(&s)
	if appstatus.Same(s, m.report.last) && !m.report.failed {
		return
	}
	err := appstatus.Publish(m.c.Status, s)
	if err != nil && !m.report.failed {
		m.c.Log.Warn("status of apps not written", "error", err)
	}
	m.report.failed = err != nil
	m.report.last = s
}

// recall reads the status that an earlier manager published, so that a restart of the manager does not reset since when
// a trouble holds.
func (r *reporter) recall(path string) {
	if r.read {
		return
	}
	r.read = true
	old, err := appstatus.Read(path)
	if err != nil {
		return // this is the first manager of the boot, or the file cannot be used
	}
	r.last, r.since = old, map[string]moment{}
	each(&old, func(what, how string, at *float64) { r.since[what] = moment{how, *at} })
}

// date fills in since when each state holds: since now, unless it held before.
func (r *reporter) date(s *appstatus.Status) {
	since := map[string]moment{}
	each(s, func(what, how string, at *float64) {
		if *at == 0 {
			*at = s.Written
			if old := r.since[what]; old.how == how {
				*at = old.at
			}
		}
		since[what] = moment{how, *at}
	})
	for i := range s.Apps {
		s.Apps[i].Sum()
	}
	r.since = since
}

// each calls f for every moment of s, with its subject, its state, and the field of its time.
func each(s *appstatus.Status, f func(what, how string, at *float64)) {
	trouble := func(what string, t *appstatus.Trouble) {
		if t.Wrong() {
			f("trouble of "+what, string(t.Cause), &t.Since)
		}
	}
	trouble("all", &s.Trouble)
	for i := range s.Apps {
		a := &s.Apps[i]
		if a.State != "" {
			f(a.Name, string(a.State), &a.Entered)
		}
		trouble(a.Name, &a.Trouble)
		for j := range a.Containers {
			c := &a.Containers[j]
			f(c.ID, string(c.State), &c.Entered)
			trouble(c.ID, &c.Trouble)
		}
	}
}
