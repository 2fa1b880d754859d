package workload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"resinos/containers/app"
	"resinos/containers/appfiles"
	"resinos/containers/appstatus"
	"resinos/containers/appview"
	"resinos/containers/plan"
	"resinos/containers/restart"
	"resinos/containers/store"
	"resinos/services/boottime"
)

// Manager makes the containers match the apps. All its fields belong to the goroutine of Run.
type Manager struct {
	c       Config
	now     func() time.Duration // since the kernel started
	apps    appfiles.Apps
	records map[string]restart.Record
	retries map[string]retry
	silent  map[string]bool      // containers whose shim does not answer
	lacking map[string]bool      // containers whose image is pulled
	waits   map[string]plan.Step // of containers that wait for others
	workers *workers
	report  reporter
	down    map[string]bool // apps that a person took down
	passing []passing       // containers that are being started for a person
	last    plan.State      // what there was when the last plan was made
	waiting []*request      // of people, to be answered when their order is done
}

// retry delays the next try of a container whose steps failed.
type retry struct {
	failures int
	not      time.Duration
}

const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
	// Events cause most looks; these times limit the delay after a lost event. The first is short, because a container
	// may end before the engine has begun to send events.
	firstLook = time.Second
	laterLook = time.Minute
	// stopLimit limits the wait for the end of programs when the device goes down.
	stopLimit = 15 * time.Second
)

// Run keeps the apps running until ctx is done, through any number of lives of the engine. Its end leaves the
// containers running, except when the device goes down. It fails only if it cannot begin.
func Run(ctx context.Context, c Config) error {
	m := &Manager{c: c, now: boottime.Now, retries: map[string]retry{}, silent: map[string]bool{}}
	return m.run(ctx)
}

func (m *Manager) run(ctx context.Context) error {
	var err error
	if m.records, err = restart.Load(m.c.Records); err != nil {
		return err
	}
	if m.down, err = restart.LoadDown(m.c.Down); err != nil {
		m.c.Log.Error("list of apps that are down not read", "error", err)
	}
	m.readApps(ctx)
	for ctx.Err() == nil {
		changes, err := m.connect(ctx)
		if err == nil {
			err = m.session(ctx, changes)
		}
		if ctx.Err() == nil {
			m.c.Log.Warn("engine gone, waiting for it", "error", err)
			m.setTrouble(appstatus.NoEngine, fmt.Errorf("the engine is gone: %w", err))
			m.publishTrouble()
			pause(ctx, restart.FirstDelay)
		}
	}
	return m.stopAll(context.WithoutCancel(ctx))
}

// errGone ends a session.
var errGone = errors.New("connection closed")

// session works with one life of the engine.
func (m *Manager) session(ctx context.Context, changes <-chan struct{}) error {
	m.workers = newWorkers(ctx, m.c.Engine)
	defer m.workers.stop(m.take)
	defer m.refuse(errGone)
	look := firstLook
	for {
		m.c.Alive.Beat()
		wait, err := m.reconcile(ctx)
		if err != nil {
			return err
		}
		timer := time.NewTimer(min(wait, look, m.c.Alive.Left()))
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case _, open := <-changes:
			if !open {
				err = errGone
			}
		case r := <-m.workers.results:
			m.finish(r)
		case <-m.c.Pulls.Changed():
		case <-m.healthChanged():
		case q := <-m.c.Orders.queue():
			m.obey(q)
		case <-m.c.Reload:
			m.readApps(ctx)
		case <-timer.C:
			look = laterLook // perhaps only a watchdog message was due; one look too many does no harm
		}
		timer.Stop()
		if err != nil {
			return err
		}
	}
}

func (m *Manager) readApps(ctx context.Context) {
	apps, err := appfiles.Read(ctx, m.c.Loader, m.c.Apps, m.apps, m.c.Log)
	if err != nil {
		m.c.Log.Error("apps not read, keeping the last ones", "error", err)
		m.setTrouble(appstatus.NotRead, err)
		return
	}
	m.apps = apps
	m.wantPassing()
	m.applyDown()
	m.setTrouble("", nil)
	m.c.Log.Info("apps read", "containers", len(m.apps.Wanted), "unreadable", len(apps.Alone))
}

// reconcile observes, plans and starts workers. It returns the time until the next look is needed.
func (m *Manager) reconcile(ctx context.Context) (time.Duration, error) {
	state, err := m.observe(ctx)
	if err != nil {
		return 0, fmt.Errorf("observe containers: %w", err)
	}
	m.noteKills(state)
	if m.report.trouble.Cause == appstatus.NoEngine {
		m.setTrouble("", nil)
	}
	m.last = state
	m.dropPassing()
	m.applyNetworks(state)
	m.applyHealth(state)
	m.tellNeeds(state)
	wait := forever
	m.restartWithOthers(state)
	steps := m.pull(m.await(m.plan(state)))
	for len(steps) > 0 {
		id := steps[0].Container
		n := slices.IndexFunc(steps, func(s plan.Step) bool { return s.Container != id })
		if n < 0 {
			n = len(steps)
		}
		wait = min(wait, m.begin(state, steps[:n]))
		steps = steps[n:]
	}
	wait = min(wait, m.publish(state))
	m.answer() // the status is published before the answer
	return wait, nil
}

// observe reads the actual state, and logs it when a shim stops or starts answering.
func (m *Manager) observe(ctx context.Context) (plan.State, error) {
	state, err := m.c.Engine.Observe(ctx, func(id string) bool { return m.records[id].Running })
	if err != nil {
		return state, err
	}
	for id, have := range state.Containers {
		switch silent := have.Task == plan.Unknown; {
		case silent && !m.silent[id]:
			m.c.Log.Warn("shim does not answer, container is left as it is", "container", id)
			m.silent[id] = true
		case !silent && m.silent[id]:
			m.c.Log.Info("shim answers again", "container", id)
			delete(m.silent, id)
		}
	}
	return state, nil
}

// applyNetworks creates the networks that the apps want. While that fails, containers that need them do not start, and
// their status says why.
func (m *Manager) applyNetworks(state plan.State) {
	if m.c.Networks == nil {
		return
	}
	wanted := make([]app.Container, len(m.apps.Wanted))
	for i, w := range m.apps.Wanted {
		wanted[i] = w.Container
	}
	err := m.c.Networks.Apply(wanted, func(id string) bool { _, there := state.Containers[id]; return there })
	if err != nil {
		m.c.Log.Error("networks of apps not as wanted", "error", err)
	}
}

// pull removes the pulls from a plan and runs them beside the other steps. It cancels pulls that no app wants any more.
func (m *Manager) pull(steps []plan.Step) []plan.Step {
	var images []string
	m.lacking = map[string]bool{}
	steps = slices.DeleteFunc(steps, func(s plan.Step) bool {
		if w := m.want(s.Container); s.Verb == plan.Pull && w != nil {
			if w.PullPolicy != app.PullNever {
				images = append(images, w.Image)
			}
			m.lacking[s.Container] = true
		}
		return s.Verb == plan.Pull
	})
	m.c.Pulls.Want(images)
	return steps
}

// want returns the wanted container, or nil if it is not wanted or its app cannot be read.
func (m *Manager) want(id string) *plan.Want {
	for i := range m.apps.Wanted {
		if m.apps.Wanted[i].ID() == id {
			return &m.apps.Wanted[i]
		}
	}
	return nil
}

// tellNeeds reports which images must stay: those that apps name, also apps that are down, and those of containers.
func (m *Manager) tellNeeds(state plan.State) {
	if m.c.Needs == nil {
		return
	}
	need := store.Need{Images: slices.Clone(m.apps.Images), Unsure: len(m.apps.Alone) > 0}
	for _, w := range m.apps.Wanted {
		need.Images = append(need.Images, w.Image)
		if w.Renews() {
			need.Refresh = append(need.Refresh, store.Refresh{Image: w.Image, Policy: w.PullPolicy})
		}
	}
	for _, have := range state.Containers {
		need.Images = append(need.Images, have.ImageName)
	}
	m.c.Needs.Set(need)
}

// begin starts the steps of one container if they are due, and otherwise returns the time until then.
func (m *Manager) begin(state plan.State, steps []plan.Step) time.Duration {
	const never = time.Duration(1<<63 - 1)
	id := steps[0].Container
	if m.workers.busy[id] {
		return never // its end wakes the manager
	}
	if wait := max(steps[0].Not, m.retries[id].not) - m.now(); wait > 0 {
		return wait
	}
	if steps[0].Verb == plan.Lost {
		status, kept := state.Containers[id].Exit() // an earlier manager may have reaped it and recorded its status
		if !kept {
			status = restart.LostStatus
		}
		m.record(id, m.records[id].End(m.now(), status))
		return 0
	}
	for _, s := range steps {
		m.c.Log.Info("step", "container", id, "verb", string(s.Verb), "why", s.Why)
	}
	m.workers.start(task{id: id, steps: steps, grace: state.Containers[id].StopGrace, want: m.want(id)})
	return never
}

// take records what a worker did.
func (m *Manager) take(r result) {
	m.workers.done(r.id)
	for _, d := range r.done {
		m.tellEvent(r.id, d)
		switch d.verb {
		case plan.Start:
			m.record(r.id, m.records[r.id].Begin(m.now()))
		case plan.Stop:
			if m.records[r.id].Running {
				m.record(r.id, m.records[r.id].End(m.now(), d.status))
			}
		case plan.Reap:
			end := m.records[r.id].End(m.now(), d.status)
			end.OOM = d.status != 0 && m.report.kills[r.id] > 0
			delete(m.report.kills, r.id) // the next start begins with none
			m.record(r.id, end)
			m.c.Log.Info("container ended", "container", r.id, "status", appview.EndOf(end))
		case plan.Delete:
			m.forget(r.id)
		}
	}
}

// finish calls take, and schedules a retry of what failed.
func (m *Manager) finish(r result) {
	m.take(r)
	m.noteEnd(r.id, r.err)
	if r.err == nil {
		delete(m.retries, r.id)
		return
	}
	failures := m.retries[r.id].failures
	delay := restart.Backoff(firstRetry, lastRetry, failures)
	m.retries[r.id] = retry{failures + 1, m.now() + delay}
	m.c.Log.Error("container not as wanted", "container", r.id, "error", r.err, "retry", delay)
}

// tellEvent reports the change of a container to osctl events.
func (m *Manager) tellEvent(id string, d done) {
	if m.c.Event == nil {
		return
	}
	switch d.verb {
	case plan.Stop, plan.Reap:
		m.c.Event(id, "end", appview.EndOf(restart.Record{Status: d.status, OOM: d.status != 0 &&
			m.report.kills[id] > 0}))
	case plan.Start, plan.Create, plan.Delete, plan.Import:
		m.c.Event(id, string(d.verb), "")
	}
}

func (m *Manager) record(id string, r restart.Record) {
	m.records[id] = r
	if err := restart.Save(m.c.Records, id, r); err != nil {
		m.c.Log.Warn("record not kept", "container", id, "error", err)
	}
}

func (m *Manager) forget(id string) {
	delete(m.records, id)
	if err := restart.Remove(m.c.Records, id); err != nil {
		m.c.Log.Warn("record not removed", "container", id, "error", err)
	}
}

// stopAll stops every container if the whole device goes down, and records which of them stay ended.
func (m *Manager) stopAll(ctx context.Context) error {
	if _, err := os.Stat(m.c.Shutdown); err != nil {
		m.c.Log.Info("manager ends, containers keep running")
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopLimit+5*time.Second)
	defer cancel()
	state, err := m.observe(ctx)
	if err != nil {
		return fmt.Errorf("stop containers: %w", err)
	}
	var all errgroup.Group
	order := m.stopOrder(state)
	for _, id := range slices.Sorted(maps.Keys(state.Containers)) {
		have, record := state.Containers[id], m.records[id]
		policy := m.policy(id)
		if have.Task != plan.NoTask {
			m.c.Log.Info("stopping for shutdown", "container", id)
		}
		all.Go(func() error {
			defer order.ended(id)
			if have.Task != plan.NoTask {
				status, err := m.c.Engine.Stop(ctx, id, min(have.StopGrace, order.turn(id)))
				if err != nil {
					return err
				}
				record = record.End(m.now(), status)
			}
			if _, kept := have.Exit(); kept || !restart.Stays(policy, record) {
				return nil
			}
			return m.c.Engine.Note(ctx, id, plan.StaysEnded, fmt.Sprint(record.Status))
		})
	}
	return all.Wait()
}

// policy returns the restart policy of a container, empty if its app is not known.
func (m *Manager) policy(id string) app.Policy {
	if w := m.want(id); w != nil {
		return w.Restart.Policy
	}
	return ""
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
