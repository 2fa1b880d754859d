package workload

import (
	"context"
	"slices"

	"resinos/containers/app"
	"resinos/containers/ocispec"
	"resinos/containers/plan"
)

// passing is a container in which a person runs a command (osctl run). It is wanted until it has been started, or until
// nobody waits for its start any more. Afterwards it ends by itself.
type passing struct {
	ctx  context.Context // of the caller of Pass
	want plan.Want
}

// Pass creates and starts a container beside those of the apps, and returns its name when it runs. c is from Held; Pass
// sets its number.
func (o *Orders) Pass(ctx context.Context, c app.Container) (id string, err error) {
	q := &request{ctx: ctx, Order: Order{App: c.App, Service: c.Service}, done: make(chan error, 1)}
	q.look = func(m *Manager) {
		for c.Number = 1; ; c.Number++ {
			if _, there := m.last.Containers[c.ID()]; !there && m.want(c.ID()) == nil {
				break
			}
		}
		m.passing = append(m.passing, passing{ctx, plan.Want{Container: c}})
		m.wantPassing()
		id = c.ID()
	}
	if err := o.send(q); err != nil {
		return "", err
	}
	return id, o.Do(ctx, Order{Verb: ActStart, App: c.App, Service: id[len(c.App)+1:]})
}

// wantPassing appends the containers of people to the wanted containers of the apps.
func (m *Manager) wantPassing() {
	m.apps.Wanted = slices.DeleteFunc(m.apps.Wanted, func(w plan.Want) bool { return w.Hold != "" })
	for _, p := range m.passing {
		m.apps.Wanted = append(m.apps.Wanted, p.want)
	}
}

// dropPassing removes those that have been started, or whose caller no longer waits.
func (m *Manager) dropPassing() {
	before := len(m.passing)
	m.passing = slices.DeleteFunc(m.passing, func(p passing) bool {
		return p.ctx.Err() != nil || m.records[p.want.ID()].Starts > 0
	})
	if len(m.passing) < before {
		m.wantPassing()
	}
}

// Held returns the container of a service as one in which a person runs a command: with all settings of the service
// except those that only one container can have, such as published ports. hold is the program of the device that
// becomes its first process.
func Held(c app.Container, hold string) app.Container {
	c.Hold, c.Number, c.ContainerName, c.Ports = hold, 0, "", nil
	c.Entrypoint, c.Command = []string{ocispec.HoldTarget}, []string{}
	c.Restart, c.Healthcheck = app.Restart{Policy: app.Never}, &app.Healthcheck{Test: []string{"NONE"}}
	c.TTY, c.StdinOpen, c.Init = false, false, false
	c.Links = slices.Clone(c.Links)
	for i := range c.Links {
		c.Links[i].Address, c.Links[i].Aliases = "", nil
	}
	return c
}
