package workload

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"resinos/containers/app"
	"resinos/containers/appfiles"
	"resinos/containers/appstatus"
	"resinos/containers/health"
	"resinos/containers/plan"
	"resinos/containers/pull"
	"resinos/containers/restart"
)

// loopAfter is how many ends in a row, each soon after the start, are a crash loop: one may be bad luck, and the second its echo.
const loopAfter = 3

const forever = time.Duration(1<<63 - 1)

// reporter tells others how the apps are. The zero reporter is ready. It belongs to the goroutine of Run.
type reporter struct {
	last    appstatus.Status
	read    bool              // last is what an earlier manager published, or newer
	errors  map[string]error  // by container: why its steps failed
	kills   map[string]int    // by container: Have.Kills when it was last looked at
	since   map[string]moment // by what is told of, its state and its trouble apart
	trouble appstatus.Trouble
	failed  bool // the last publishing did, and it has been said
}

// moment is since when something is as it is.
type moment struct {
	how string
	at  float64
}

// noteKills says which containers had processes ended for want of memory since the last look.
func (m *Manager) noteKills(state plan.State) {
	kills := map[string]int{}
	for id, have := range state.Containers {
		kills[id] = have.Kills
		if m.workers.busy[id] {
			kills[id] = max(have.Kills, m.report.kills[id]) // its group may be gone, and how it ended is not taken over yet
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

// endOf is how a program ended, for people: that it was killed for want of memory says more than by which signal.
func endOf(r restart.Record) string {
	switch {
	case r.OOM:
		return "out of memory"
	case r.Status == restart.LostStatus:
		return fmt.Sprintf("killed (status %d)", r.Status)
	}
	return fmt.Sprintf("exited with status %d", r.Status)
}

// noteEnd takes over what became of the steps of a container.
func (m *Manager) noteEnd(id string, err error) {
	if m.report.errors == nil {
		m.report.errors = map[string]error{}
	}
	if m.report.errors[id] = err; err == nil {
		delete(m.report.errors, id)
	}
}

// trouble of the manager itself; an empty cause takes it back.
func (m *Manager) setTrouble(cause appstatus.Cause, err error) {
	m.report.trouble = appstatus.Trouble{Cause: cause}
	if err != nil {
		m.report.trouble.Reason = err.Error()
	}
}

// publish writes how all apps are, if that has changed, and returns after how long it changes by itself.
func (m *Manager) publish(state plan.State) time.Duration {
	if m.c.Status == "" {
		return forever
	}
	v := m.view(state)
	m.tell(appstatus.Status{Apps: v.all(), Trouble: m.report.trouble})
	return v.settles()
}

func (m *Manager) view(state plan.State) view {
	v := view{apps: m.apps, state: state, records: m.records, errors: m.report.errors, now: m.now(),
		pulls: m.c.Pulls.Status, health: m.healthOf, waits: m.waits}
	if m.workers != nil {
		v.busy = m.workers.busy
	}
	return v
}

// publishTrouble writes that the manager itself is in trouble, beside what it last knew.
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

// recall takes up what an earlier manager published: since when something is wrong does not begin anew with a new manager.
func (r *reporter) recall(path string) {
	if r.read {
		return
	}
	r.read = true
	old, err := appstatus.Read(path)
	if err != nil {
		return // the first manager of this boot, or nothing that can be used
	}
	r.last, r.since = old, map[string]moment{}
	each(&old, func(what, how string, at *float64) { r.since[what] = moment{how, *at} })
}

// date fills in since when each thing is as it is: since now, unless it was so before.
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

// each calls f for every moment of s: what it is of, how that is, and where it stands.
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

// view is all that a status is made of.
type view struct {
	apps    appfiles.Apps
	state   plan.State
	records map[string]restart.Record
	errors  map[string]error
	busy    map[string]bool
	pulls   func(image string) (pull.Status, bool)
	health  func(id string) health.Status
	waits   map[string]plan.Step
	now     time.Duration
}

// fault is why a container is not as wanted: a step of it failed, or its image cannot be pulled.
func (v view) fault(want *plan.Want, id string) error {
	if err := v.errors[id]; err != nil || want == nil {
		return err
	}
	if _, there := v.state.Images[want.Image]; !there && want.PullPolicy == app.PullNever && want.Preload == nil {
		return fmt.Errorf("container image %s is not there, and pull_policy is never: osctl load it", want.Image)
	}
	if p, ok := v.pulls(want.Image); ok && p.Err != nil {
		return fmt.Errorf("pull %s: %w", want.Image, p.Err)
	}
	return nil
}

// pulling is how much of a container's image has come, nil if none is pulled.
func (v view) pulling(want *plan.Want) *appstatus.Pull {
	if want == nil {
		return nil
	}
	p, ok := v.pulls(want.Image)
	if !ok {
		return nil
	}
	done, size := p.Sum()
	return &appstatus.Pull{Done: done, Size: size, Waiting: p.Waiting}
}

// all lists every app that is wanted or there, with every container of it. It is pure; what it leaves 0 is dated by date.
func (v view) all() []appstatus.App {
	wanted, byApp := map[string]*plan.Want{}, map[string]map[string]bool{}
	note := func(app, id string) {
		if byApp[app] == nil {
			byApp[app] = map[string]bool{}
		}
		if id != "" {
			byApp[app][id] = true
		}
	}
	for i := range v.apps.Wanted {
		w := &v.apps.Wanted[i]
		wanted[w.ID()] = w
		note(w.App, w.ID())
	}
	for id, have := range v.state.Containers {
		note(have.App, id)
	}
	for _, name := range slices.Concat(v.apps.Alone, v.apps.Down) {
		note(name, "")
	}
	list := []appstatus.App{}
	for _, name := range slices.Sorted(maps.Keys(byApp)) {
		a := appstatus.App{Name: name}
		if slices.Contains(v.apps.Down, name) {
			a.State = appstatus.Down
		}
		if slices.Contains(v.apps.Alone, name) {
			a.State = appstatus.GivenUp
			a.Trouble = appstatus.Trouble{Cause: appstatus.NotUnderstood, Reason: "cannot be read: " + v.apps.Why(name)}
		}
		for _, id := range slices.Sorted(maps.Keys(byApp[name])) {
			a.Containers = append(a.Containers, v.container(name, id, wanted[id]))
		}
		list = append(list, a)
	}
	return list
}

// container says how one container is; want is nil when nobody wants it, or the wish cannot be read.
func (v view) container(name, id string, want *plan.Want) appstatus.Container {
	have, there := v.state.Containers[id]
	r := v.records[id]
	c := appstatus.Container{Name: strings.TrimPrefix(id, name+"."), ID: id, Image: have.ImageName, Restarts: max(0, r.Starts-1), Kills: have.Kills}
	if want != nil {
		c.Image, c.Policy = want.Image, want.Restart.String()
		for _, p := range want.Ports {
			c.Ports = append(c.Ports, p.String())
		}
	}
	if status, kept := have.Exit(); r.Ended > 0 {
		c.LastExit, c.LastAt = endOf(r), r.Ended.Seconds()
	} else if kept { // in an earlier boot
		c.LastExit = endOf(restart.Record{Status: status})
	}
	c.Pull = v.pulling(want)
	c.State, c.Entered = v.stateOf(want, have, there, r, id)
	c.Waits = v.waits[id].Why
	if c.State == appstatus.Up {
		c.Health = string(v.health(id))
	}
	c.Trouble = v.troubleOf(want, c.State, r, id)
	return c
}

// looping reports whether a container ends again and again. It does until a start has lasted.
func (v view) looping(r restart.Record) bool {
	return r.Quick >= loopAfter && !(r.Running && v.now-r.Started >= restart.Healthy)
}

// settles is after how long the first of the crash loops is over, if its container goes on to run.
func (v view) settles() time.Duration {
	wait := forever
	for _, r := range v.records {
		if r.Running && v.looping(r) {
			wait = min(wait, r.Started+restart.Healthy-v.now)
		}
	}
	return wait
}

func (v view) stateOf(want *plan.Want, have plan.Have, there bool, r restart.Record, id string) (appstatus.State, float64) {
	again, returns := true, true // a wish that cannot be read will be one again
	if want != nil {
		_, again = restart.Next(want.Restart, r)
		returns = restart.Returns(want.Restart.Policy, have.StaysEnded != "", have.Held != "")
	}
	held := r.Held || r.Starts == 0 && have.Held != "" && !returns
	if status, kept := have.Exit(); kept && r.Starts == 0 && !returns { // it ended in an earlier boot
		r.Starts, r.Status = 1, status
	}
	switch {
	case want == nil && there && !slices.Contains(v.apps.Alone, have.App):
		return appstatus.Stopping, 0
	case have.Task == plan.Running && r.Held:
		return appstatus.Stopping, 0
	case have.Task == plan.Running:
		return appstatus.Up, r.Started.Seconds()
	case held && have.Task == plan.NoTask && !v.busy[id]:
		return appstatus.Halted, r.Ended.Seconds()
	case v.busy[id]:
		return appstatus.Starting, 0
	case v.fault(want, id) != nil:
		return appstatus.Backoff, 0
	case have.Task == plan.Created, have.Task == plan.NoTask && (r.Starts == 0 || v.waits[id].Why != ""):
		return appstatus.Starting, 0
	case have.Task != plan.NoTask && have.Task != plan.Stopped:
		return appstatus.Unknown, 0
	case returns && again && (r.Ended > 0 || r.Status != 0):
		return appstatus.Backoff, r.Ended.Seconds()
	case r.Status != 0:
		return appstatus.GivenUp, r.Ended.Seconds()
	}
	return appstatus.Done, r.Ended.Seconds()
}

func (v view) troubleOf(want *plan.Want, state appstatus.State, r restart.Record, id string) appstatus.Trouble {
	switch err := v.fault(want, id); {
	case err != nil:
		return appstatus.Trouble{Cause: appstatus.NotAsWanted, Reason: err.Error()}
	case v.waits[id].Failed:
		return appstatus.Trouble{Cause: appstatus.Dependency, Reason: v.waits[id].Why}
	case state == appstatus.Unknown:
		return appstatus.Trouble{Cause: appstatus.Unanswered, Reason: "its shim does not answer"}
	case state == appstatus.GivenUp:
		return appstatus.Trouble{Cause: appstatus.Failed, Since: r.Ended.Seconds(), Reason: endOf(r) + ", and is not started again" + policyOf(want)}
	case state != appstatus.Done && v.looping(r):
		return appstatus.Trouble{Cause: appstatus.CrashLoop,
			Reason: fmt.Sprintf("crash loop: ended %d times in %s, each time within %v of its start, last: %s",
				r.Quick, span(r.Ended-r.First), restart.Healthy, endOf(r))}
	case state == appstatus.Up && v.health(id) == health.Unhealthy:
		return appstatus.Trouble{Cause: appstatus.Unhealthy, Reason: "unhealthy: its check fails"}
	}
	return appstatus.Trouble{}
}

func policyOf(want *plan.Want) string {
	if want == nil {
		return ""
	}
	policy := want.Restart.String()
	if policy == "" {
		policy = string(app.Never)
	}
	return " (restart: " + policy + ")"
}

// span is a time for people: of a minute and more, only the minutes.
func span(d time.Duration) string {
	if d < time.Minute {
		return max(d.Round(time.Second), time.Second).String()
	}
	return fmt.Sprintf("%d min", int(d.Minutes()))
}
