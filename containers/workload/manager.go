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
	"resinos/containers/appstatus"
	"resinos/containers/store"
	"resinos/services/boottime"
)

// Manager holds the apps to their wishes. All its fields belong to the goroutine of Run.
type Manager struct {
	c       Config
	now     func() time.Duration // since the kernel started
	apps    folders
	records map[string]Record
	retries map[string]retry
	silent  map[string]bool // containers whose shim does not answer
	workers *workers
	report  reporter
}

// retry keeps a container whose steps failed from being tried at once again.
type retry struct {
	failures int
	not      time.Duration
}

const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
	// Events tell when to look; these bound what a lost one costs. The first is short, as an end
	// may come before the engine has taken our wish for events in.
	firstLook = time.Second
	laterLook = time.Minute
	// stopLimit bounds the wait for programs to end when the device goes down.
	stopLimit = 15 * time.Second
)

// Run keeps the apps running until ctx is done, through any number of lives of the engine. The
// containers live on, except when the device goes down. It fails only where nothing can be done.
func Run(ctx context.Context, c Config) error {
	m := &Manager{c: c, now: boottime.Now, retries: map[string]retry{}, silent: map[string]bool{}}
	return m.run(ctx)
}

func (m *Manager) run(ctx context.Context) error {
	var err error
	if m.records, err = loadRecords(m.c.Records); err != nil {
		return err
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
			pause(ctx, firstDelay)
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
		case <-m.c.Reload:
			m.readApps(ctx)
		case <-timer.C:
			look = laterLook // it may be only a sign of life that was due: to look once too often does no harm
		}
		timer.Stop()
		if err != nil {
			return err
		}
	}
}

func (m *Manager) readApps(ctx context.Context) {
	apps, err := readApps(ctx, m.c.Loader, m.c.Apps, m.apps, m.c.Log)
	if err != nil {
		m.c.Log.Error("apps not read, keeping the last ones", "error", err)
		m.setTrouble(appstatus.NotRead, err)
		return
	}
	m.apps = apps
	m.setTrouble("", nil)
	m.c.Log.Info("apps read", "containers", len(apps.wanted), "unreadable", len(apps.alone))
}

// reconcile looks, plans and sets workers going. It returns after how long there is more to do.
func (m *Manager) reconcile(ctx context.Context) (time.Duration, error) {
	state, err := m.observe(ctx)
	if err != nil {
		return 0, fmt.Errorf("observe containers: %w", err)
	}
	m.noteKills(state)
	if m.report.trouble.Cause == appstatus.NoEngine {
		m.setTrouble("", nil)
	}
	m.applyNetworks(state)
	m.tellNeeds(state)
	wait := forever
	steps := m.pull(Plan(Input{Wanted: m.apps.wanted, Alone: m.apps.alone, State: state, Records: m.records}))
	for len(steps) > 0 {
		id := steps[0].Container
		n := slices.IndexFunc(steps, func(s Step) bool { return s.Container != id })
		if n < 0 {
			n = len(steps)
		}
		wait = min(wait, m.begin(state, steps[:n]))
		steps = steps[n:]
	}
	return min(wait, m.publish(state)), nil
}

// observe looks at what there is, and says it when a shim no longer answers, or answers again.
func (m *Manager) observe(ctx context.Context) (State, error) {
	state, err := m.c.Engine.Observe(ctx, func(id string) bool { return m.records[id].Running })
	if err != nil {
		return state, err
	}
	for id, have := range state.Containers {
		switch silent := have.Task == Unknown; {
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

// applyNetworks has the networks as the apps want them. While they are not, what needs them does not start, and says
// why.
func (m *Manager) applyNetworks(state State) {
	if m.c.Networks == nil {
		return
	}
	wanted := make([]app.Container, len(m.apps.wanted))
	for i, w := range m.apps.wanted {
		wanted[i] = w.Container
	}
	err := m.c.Networks.Apply(wanted, func(id string) bool { _, there := state.Containers[id]; return there })
	if err != nil {
		m.c.Log.Error("networks of apps not as wanted", "error", err)
	}
}

// pull takes the pulls out of a plan and has them done beside the rest. What nobody wants any more is not pulled.
func (m *Manager) pull(steps []Step) []Step {
	var images []string
	steps = slices.DeleteFunc(steps, func(s Step) bool {
		if w := m.want(s.Container); s.Verb == Pull && w != nil {
			images = append(images, w.Image)
		}
		return s.Verb == Pull
	})
	m.c.Pulls.Want(images)
	return steps
}

// want is the wish for a container, or nil if it is not wanted or its app cannot be read.
func (m *Manager) want(id string) *Want {
	for i := range m.apps.wanted {
		if m.apps.wanted[i].ID() == id {
			return &m.apps.wanted[i]
		}
	}
	return nil
}

// tellNeeds says which images must stay: those that apps name, and those of containers.
func (m *Manager) tellNeeds(state State) {
	if m.c.Needs == nil {
		return
	}
	need := store.Need{Unsure: len(m.apps.alone) > 0}
	for _, w := range m.apps.wanted {
		need.Images = append(need.Images, w.Image)
	}
	for _, have := range state.Containers {
		need.Images = append(need.Images, have.ImageName)
	}
	m.c.Needs.Set(need)
}

// begin starts the steps of one container if their time has come, and returns how long that is.
func (m *Manager) begin(state State, steps []Step) time.Duration {
	const never = time.Duration(1<<63 - 1)
	id := steps[0].Container
	if m.workers.busy[id] {
		return never // its end wakes us
	}
	if wait := max(steps[0].Not, m.retries[id].not) - m.now(); wait > 0 {
		return wait
	}
	if steps[0].Verb == Lost {
		status := uint32(lostStatus)
		if state.Containers[id].StaysEnded && m.policy(id) == app.OnFailure {
			status = 0 // it was reaped by an earlier manager, which had kept that it ended well
		}
		m.record(id, m.records[id].ended(m.now(), status))
		return 0
	}
	for _, s := range steps {
		m.c.Log.Info("step", "container", id, "verb", string(s.Verb), "why", s.Why)
	}
	m.workers.start(task{id: id, steps: steps, grace: state.Containers[id].StopGrace, want: m.want(id)})
	return never
}

// take takes over what a worker did.
func (m *Manager) take(r result) {
	m.workers.done(r.id)
	for _, d := range r.done {
		switch d.verb {
		case Start:
			m.record(r.id, m.records[r.id].started(m.now()))
		case Reap:
			end := m.records[r.id].ended(m.now(), d.status)
			end.OOM = d.status != 0 && m.report.kills[r.id] > 0
			delete(m.report.kills, r.id) // the next life begins with none
			m.record(r.id, end)
			m.c.Log.Info("container ended", "container", r.id, "status", endOf(end))
		case Delete:
			m.forget(r.id)
		}
	}
}

// finish is take, and sees to what a worker could not do.
func (m *Manager) finish(r result) {
	m.take(r)
	m.noteEnd(r.id, r.err)
	if r.err == nil {
		delete(m.retries, r.id)
		return
	}
	failures := m.retries[r.id].failures
	delay := backoff(firstRetry, lastRetry, failures)
	m.retries[r.id] = retry{failures + 1, m.now() + delay}
	m.c.Log.Error("container not as wanted", "container", r.id, "error", r.err, "retry", delay)
}

func (m *Manager) record(id string, r Record) {
	m.records[id] = r
	if err := saveRecord(m.c.Records, id, r); err != nil {
		m.c.Log.Warn("record not kept", "container", id, "error", err)
	}
}

func (m *Manager) forget(id string) {
	delete(m.records, id)
	if err := removeRecord(m.c.Records, id); err != nil {
		m.c.Log.Warn("record not removed", "container", id, "error", err)
	}
}

// stopAll ends every container if the whole device goes down, and keeps which of them stay ended.
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
	for _, id := range slices.Sorted(maps.Keys(state.Containers)) {
		have, record := state.Containers[id], m.records[id]
		policy := m.policy(id)
		if have.Task != NoTask {
			m.c.Log.Info("stopping for shutdown", "container", id)
		}
		all.Go(func() error {
			if have.Task != NoTask {
				status, err := m.c.Engine.Stop(ctx, id, min(have.StopGrace, stopLimit))
				if err != nil {
					return err
				}
				record = record.ended(m.now(), status)
			}
			if have.StaysEnded || !stays(policy, record) {
				return nil
			}
			return m.c.Engine.Note(ctx, id)
		})
	}
	return all.Wait()
}

// policy is that of a container, or empty if it is not wanted or its app cannot be read.
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
