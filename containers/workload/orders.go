package workload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"resinos/containers/plan"
	"resinos/containers/restart"
	"resinos/services/control"
)

// Order is what a person asks for.
type Order struct {
	Verb Act
	// App and Service name the containers. Without Service the order is for the whole app, without App (only with Up)
	// for all apps.
	App, Service string
}

// Act is the action of an order.
type Act string

// The acts, in docker's words.
const (
	ActStart   Act = "start"   // what was stopped or has ended
	ActStop    Act = "stop"    // it stays stopped until it is started
	ActRestart Act = "restart" // stop and start
	ActUp      Act = "up"      // undo Down, read the apps again, start what was stopped or has ended
	ActDown    Act = "down"    // stop and remove all containers of an app, until Up
)

// Orders passes orders of people to the manager. Several goroutines may use it.
type Orders struct{ requests chan *request }

// NewOrders returns Orders for Config.Orders.
func NewOrders() *Orders { return &Orders{make(chan *request)} }

// request is an order that waits for its result.
type request struct {
	ctx context.Context
	Order
	ids  []string
	look func(*Manager) // instead of a change: it is called in the manager's goroutine
	done chan error     // has capacity for the answer
}

var errNoEngine = &control.Error{Text: "the engine is not there", Hint: "try: osctl status containerd"}

// Do makes the manager carry out an order. It returns when the order is done or has failed. After the error of a step,
// and after the end of ctx, the manager continues to try.
func (o *Orders) Do(ctx context.Context, order Order) error {
	return o.send(&request{ctx: ctx, Order: order, done: make(chan error, 1)})
}

// Found is a container that is wanted or exists.
type Found struct {
	ID    string
	Want  *plan.Want // nil: it is to be removed
	Have  plan.Have
	There bool // it exists in the engine
}

// Find returns the containers of an app, or one of them.
func (o *Orders) Find(ctx context.Context, order Order) (found []Found, err error) {
	q := &request{ctx: ctx, Order: order, done: make(chan error, 1)}
	q.look = func(m *Manager) {
		for _, id := range q.ids {
			have, there := m.last.Containers[id]
			found = append(found, Found{id, m.want(id), have, there})
		}
	}
	err = o.send(q)
	return found, err
}

// Plan returns the steps from the actual to the wanted state, of one app or of all, and the current time in the clock
// of Step.Not. Steps that are being carried out are not among them.
func (o *Orders) Plan(ctx context.Context, order Order) (steps []plan.Step, now time.Duration, err error) {
	q := &request{ctx: ctx, Order: order, done: make(chan error, 1)}
	q.look = func(m *Manager) {
		now = m.now()
		for _, s := range m.plan(m.last) {
			if slices.Contains(q.ids, s.Container) && !m.workers.busy[s.Container] {
				s.Not = max(s.Not, m.retries[s.Container].not)
				steps = append(steps, s)
			}
		}
	}
	err = o.send(q)
	return steps, now, err
}

func (o *Orders) send(q *request) error {
	ctx, order := q.ctx, q.Order
	select {
	case o.requests <- q:
	case <-ctx.Done():
		return fmt.Errorf("%s: the manager is busy: %w", order.Verb, context.Cause(ctx))
	}
	select {
	case err := <-q.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s: not done yet, the manager goes on: %w", order.Verb, context.Cause(ctx))
	}
}

func (o *Orders) queue() <-chan *request {
	if o == nil {
		return nil
	}
	return o.requests
}

// obey records an order: all later plans include it.
func (m *Manager) obey(q *request) {
	if q.look != nil {
		err := m.findNow(q)
		if err == nil {
			q.look(m)
		}
		q.done <- err
		return
	}
	if err := m.admit(q); err != nil {
		q.done <- err
		return
	}
	m.c.Log.Info("order taken", "action", string(q.Verb), "app", q.App, "containers", len(q.ids))
	m.waiting = append(m.waiting, q)
}

func (m *Manager) admit(q *request) error {
	err := m.findNow(q)
	if err == nil && (q.Verb == ActUp || q.Verb == ActDown) {
		if err = m.setDown(q); err == nil {
			m.readApps(q.ctx)
			err = m.find(q)
		}
	}
	if err == nil && q.Verb == ActUp { // an image may just have been pulled
		m.last, err = m.observe(q.ctx)
	}
	if err != nil {
		return err
	}
	if q.Verb != ActStop && q.Verb != ActDown {
		switch {
		case slices.Contains(m.apps.Alone, q.App):
			return &control.Error{Text: "app " + q.App + " cannot be read: " + m.apps.Why(q.App),
				Hint: "try: osctl status " + q.App}
		case m.down[q.App]:
			return &control.Error{Text: "app " + q.App + " is down", Hint: "try: osctl up " + q.App}
		}
	}
	for _, id := range q.ids {
		delete(m.retries, id)
		delete(m.report.errors, id)
		switch r := m.records[id]; q.Verb {
		case ActStop:
			m.record(id, r.Stop())
		case ActStart, ActUp:
			r = r.Ask(restart.Start)
			w, have := m.want(id), m.last.Containers[id]
			r.Renew = q.Verb == ActUp && w != nil && w.Outdated(have, m.last.Images)
			m.record(id, r)
		case ActRestart:
			m.record(id, r.Ask(restart.Restart))
		}
	}
	if q.Verb == ActRestart {
		m.restartAfter(m.input(m.last), func(id string) bool { return slices.Contains(q.ids, id) })
	}
	return nil
}

// findNow calls find, and reads the apps again if the name is not known: the person may just have written the file.
func (m *Manager) findNow(q *request) error {
	if err := m.find(q); err == nil || q.App == "" {
		return err
	}
	m.readApps(q.ctx)
	return m.find(q)
}

// find fills in which containers an order is about. The error lists the existing names.
func (m *Manager) find(q *request) error {
	apps := map[string]map[string]bool{} // services by app
	note := func(app, id string) {
		if apps[app] == nil {
			apps[app] = map[string]bool{}
		}
		if id != "" {
			apps[app][strings.TrimPrefix(id, app+".")] = true
		}
	}
	for _, w := range m.apps.Wanted {
		note(w.App, w.ID())
	}
	for id, have := range m.last.Containers {
		note(have.App, id)
	}
	for _, name := range slices.Concat(m.apps.Alone, m.apps.Down) {
		note(name, "")
	}
	services, known := apps[q.App]
	switch names := slices.Sorted(maps.Keys(apps)); {
	case q.App == "" && q.Verb != ActUp && q.look == nil:
		return &control.Error{Text: string(q.Verb) + " needs the name of an app", Hint: hint(names, "the apps are")}
	case q.App != "" && !known:
		return &control.Error{Text: fmt.Sprintf("no app %q", q.App), Hint: hint(names, "the apps are")}
	case q.Service != "" && !services[q.Service]:
		return &control.Error{Text: fmt.Sprintf("app %s has no container %q", q.App, q.Service),
			Hint: hint(slices.Sorted(maps.Keys(services)), "it has")}
	}
	q.ids = nil
	for app, services := range apps {
		if slices.Contains(m.apps.Alone, app) && q.App == "" || q.App != "" && app != q.App {
			continue
		}
		for service := range services {
			if q.Service == "" || service == q.Service {
				q.ids = append(q.ids, app+"."+service)
			}
		}
	}
	slices.Sort(q.ids)
	return nil
}

func hint(names []string, what string) string {
	if len(names) == 0 {
		return "there is none: an app is a directory in " + Apps + " with a compose.yaml"
	}
	return what + ": " + strings.Join(names, ", ")
}

// setDown records on the disk whether an app is down.
func (m *Manager) setDown(q *request) error {
	down := maps.Clone(m.down)
	switch {
	case q.Verb == ActDown:
		down[q.App] = true
	case q.App == "":
		clear(down)
	default:
		delete(down, q.App)
	}
	if maps.Equal(down, m.down) {
		return nil
	}
	if err := restart.SaveDown(m.c.Down, down); err != nil {
		return err
	}
	m.down = down
	return nil
}

// applyDown removes the wanted containers of apps that are down. An app that was removed, or cannot be read, is no
// longer down.
func (m *Manager) applyDown() {
	there := map[string]bool{}
	for _, w := range m.apps.Wanted {
		if there[w.App] = m.down[w.App]; there[w.App] {
			m.apps.Images = append(m.apps.Images, w.Image)
		}
	}
	maps.DeleteFunc(there, func(_ string, down bool) bool { return !down })
	m.apps.Wanted = slices.DeleteFunc(m.apps.Wanted, func(w plan.Want) bool { return m.down[w.App] })
	m.apps.Down = slices.Sorted(maps.Keys(there))
	gone := func(app string, _ bool) bool { return !there[app] && !slices.Contains(m.apps.Alone, app) }
	if before := len(m.down); before > 0 {
		if maps.DeleteFunc(m.down, gone); len(m.down) < before {
			if err := restart.SaveDown(m.c.Down, m.down); err != nil {
				m.c.Log.Warn("removed app stays in the list of apps that are down", "error", err)
			}
		}
	}
}

// answer answers the requests that are done or have failed.
func (m *Manager) answer() {
	m.waiting = slices.DeleteFunc(m.waiting, func(q *request) bool {
		if q.ctx.Err() != nil {
			return true // it has gone
		}
		var faults []error
		for _, id := range q.ids {
			done, err := m.outcome(q.Verb, id)
			if !done {
				return false
			}
			if err != nil {
				faults = append(faults, err)
			}
		}
		q.done <- errors.Join(faults...)
		return true
	})
}

// outcome reports whether a container is as the order asks, or why that has failed.
func (m *Manager) outcome(verb Act, id string) (done bool, err error) {
	if err := m.report.errors[id]; err != nil {
		return true, err
	}
	if m.lacking[id] && verb != ActStop && verb != ActDown {
		err := m.view(m.last).Fault(m.want(id), id)
		return err != nil, err
	}
	if s := m.waits[id]; s.Failed && verb != ActStop && verb != ActDown {
		return true, fmt.Errorf("%s %s", id, s.Why)
	}
	return m.fulfilled(verb, id), nil
}

// fulfilled reports whether a container is as the order asks.
func (m *Manager) fulfilled(verb Act, id string) bool {
	have, there := m.last.Containers[id]
	if m.workers.busy[id] {
		return false
	}
	switch verb {
	case ActStop:
		return have.Task == plan.NoTask
	case ActDown:
		return !there
	}
	r := m.records[id]
	if r.Asked == restart.Start && have.Task == plan.Running { // it is running already
		r.Asked = restart.Nothing
		m.record(id, r)
	}
	return r.Asked == restart.Nothing && !r.Renew
}

// refuse answers all waiting requests with an error.
func (m *Manager) refuse(err error) {
	for _, q := range m.waiting {
		q.done <- fmt.Errorf("%s: not done yet, the manager tries again: %w", q.Verb, err)
	}
	m.waiting = nil
}
