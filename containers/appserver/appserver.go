// Package appserver answers on the manager's socket: it passes orders to the manager, and describes containers and
// images. It keeps nothing but the last events. Read Server first; package appcontrol has the operations.
package appserver

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"strings"
	"time"

	"resinos/containers/appcontrol"
	"resinos/containers/appstatus"
	"resinos/containers/engineclient"
	"resinos/containers/health"
	"resinos/containers/inside"
	"resinos/containers/plan"
	"resinos/containers/workload"
	"resinos/services/boottime"
	"resinos/services/control"
)

// Server serves the socket of one manager.
type Server struct {
	Socket string
	Status string // file of appstatus
	Orders *workload.Orders
	Engine *engineclient.Containerd
	Events *Events
	Images Images
	Hold   string // the program that becomes the first process of a container of osctl run
	// Health returns the health of a container.
	Health func(id string) (health.State, bool)
	Log    *slog.Logger

	jobs jobs
}

// Run answers until ctx is done.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer s.jobs.all.Wait()
	defer cancel()
	h := s.handlers()
	maps.Copy(h, s.imageHandlers(ctx))
	return control.Serve(ctx, s.Socket, h, s.Log)
}

func (s *Server) handlers() map[string]control.Handler {
	h := map[string]control.Handler{
		appcontrol.OpPlan:    on(s.plan),
		appcontrol.OpInspect: on(s.inspect),
		appcontrol.OpExec:    on(s.exec),
		appcontrol.OpRun:     on(s.run),
		appcontrol.OpUp:      on(s.up),
		appcontrol.OpEvents: on(func(ctx context.Context, w appcontrol.Watch) (any, error) {
			return s.Events.wait(ctx, w), nil
		}),
	}
	for op, act := range map[string]workload.Act{
		appcontrol.OpStart: workload.ActStart, appcontrol.OpStop: workload.ActStop,
		appcontrol.OpRestart: workload.ActRestart,
		appcontrol.OpDown:    workload.ActDown,
	} {
		h[op] = on(func(ctx context.Context, a appcontrol.App) (any, error) {
			err := s.Orders.Do(ctx, workload.Order{Verb: act, App: a.App, Service: a.Service})
			if err == nil && op == appcontrol.OpDown && a.Volumes {
				err = s.Engine.Volumes.Remove(a.App)
			}
			return nil, err
		})
	}
	return h
}

// on returns a handler that calls a function with typed arguments.
func on[T any](do func(context.Context, T) (any, error)) control.Handler {
	return func(ctx context.Context, args json.RawMessage) (any, error) {
		var a T
		if err := control.Args(args, &a); err != nil {
			return nil, err
		}
		return do(ctx, a)
	}
}

func (s *Server) plan(ctx context.Context, a appcontrol.App) (any, error) {
	steps, now, err := s.Orders.Plan(ctx, workload.Order{App: a.App, Service: a.Service})
	list := []appcontrol.Step{}
	for _, step := range steps {
		list = append(list, appcontrol.Step{Container: step.Container, Verb: string(step.Verb), Why: step.Why,
			In: max(0, (step.Not - now).Seconds())})
	}
	return list, err
}

func (s *Server) exec(ctx context.Context, e appcontrol.Exec) (any, error) {
	if len(e.Args) == 0 {
		return nil, &control.Error{Text: "exec needs a command", Hint: "try: osctl exec -it " + e.App.String() + " sh"}
	}
	found, err := s.Orders.Find(ctx, workload.Order{App: e.App.App, Service: e.Service})
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		var ids []string
		for _, one := range found {
			ids = append(ids, one.ID)
		}
		return nil, &control.Error{Text: fmt.Sprintf("app %s has %d containers", e.App.App, len(found)),
			Hint: "say which: " + strings.Join(ids, ", ")}
	}
	id := found[0].ID
	if found[0].Have.Task != plan.Running {
		return nil, &control.Error{Text: id + " does not run", Hint: "try: osctl start " + id}
	}
	return s.program(ctx, id, e, found[0].Want)
}

// run creates a container like that of a service, in which only the holding process runs, and returns how to run the
// command in it.
func (s *Server) run(ctx context.Context, e appcontrol.Exec) (any, error) {
	found, err := s.Orders.Find(ctx, workload.Order{App: e.App.App, Service: e.Service})
	if err != nil {
		return nil, err
	}
	if e.Service == "" || found[0].Want == nil {
		var ids []string
		for _, one := range found {
			ids = append(ids, one.ID)
		}
		return nil, &control.Error{Text: "run needs a service of an app that is up",
			Hint: "say which: " + strings.Join(ids, ", ")}
	}
	want := *found[0].Want
	id, err := s.Orders.Pass(ctx, workload.Held(want.Container, s.Hold))
	if err != nil {
		return nil, err
	}
	like := want.Container
	if len(e.Args) > 0 {
		like.Command = e.Args
	}
	if e.Args, err = s.Engine.Arguments(ctx, like); err != nil {
		return nil, err
	}
	return s.program(ctx, id, e, &want)
}

// program returns how to run a command in a running container.
func (s *Server) program(ctx context.Context, id string, e appcontrol.Exec, want *plan.Want) (any, error) {
	spec, pid, err := s.Engine.Inside(ctx, id)
	if err != nil {
		return nil, err
	}
	w := inside.Wish{Args: e.Args, Env: e.Env, Dir: e.Dir, TTY: e.TTY, Rows: e.Rows, Columns: e.Columns}
	if e.User != "" {
		if w.User, err = engineclient.UserIn(fmt.Sprintf("/proc/%d/root", pid), e.User, want); err != nil {
			return nil, &control.Error{Text: err.Error(), Hint: "a user of the container, or UID[:GID]"}
		}
	}
	p := appcontrol.Program{ID: id, Path: s.Engine.Runtime}
	p.Args, p.Process, err = s.Engine.Inner().Command(id, inside.Process(*spec.Process, w))
	return p, err
}

func (s *Server) inspect(ctx context.Context, a appcontrol.App) (any, error) {
	found, err := s.Orders.Find(ctx, workload.Order{App: a.App, Service: a.Service})
	if err != nil {
		return nil, err
	}
	list := []appcontrol.Container{}
	for _, one := range found {
		c := appcontrol.Container{ID: one.ID, Status: s.status(one.ID), Health: s.health(one.ID)}
		if one.Want != nil {
			if c.Wanted, err = json.Marshal(one.Want.Container); err != nil {
				return nil, err
			}
		}
		if one.There {
			if err := s.Engine.Describe(ctx, &c); err != nil {
				return nil, err
			}
		}
		list = append(list, c)
	}
	return list, nil
}

// health returns the health of a container, nil if it has no check.
func (s *Server) health(id string) *appcontrol.Health {
	state, asked := s.Health(id)
	if !asked {
		return nil
	}
	h := &appcontrol.Health{Status: string(state.Status), Streak: state.Streak, Log: []appcontrol.Check{}}
	booted := time.Now().Add(-boottime.Now())
	for _, r := range state.Log {
		h.Log = append(h.Log, appcontrol.Check{At: r.Start.Seconds(),
			Time: booted.Add(r.Start).UTC().Format(time.RFC3339Nano),
			Took: (r.End - r.Start).Seconds(), Exit: r.Exit, Output: r.Output})
	}
	return h
}

// status returns the published status of a container, nil if there is none.
func (s *Server) status(id string) json.RawMessage {
	all, err := appstatus.Read(filepath.Clean(s.Status))
	if err != nil {
		return nil
	}
	for _, a := range all.Apps {
		for _, c := range a.Containers {
			if c.ID == id {
				text, _ := json.Marshal(c) // strings and numbers always marshal
				return text
			}
		}
	}
	return nil
}
