package workload

import (
	"context"
	"slices"

	"resinos/containers/app"
	"resinos/containers/ocispec"
	"resinos/containers/plan"
)

// passing is a container in which a person runs a command. It is wanted until it has been started, or until nobody
// waits for that any more. Then it ends by itself.
type passing struct {
	ctx  context.Context // of who waits
	want plan.Want
}

// Pass has a container made and started beside those of the apps, and returns its name when it runs. c is from Held;
// it gets its number here.
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

// wantPassing has what the apps want end with what people want.
func (m *Manager) wantPassing() {
	m.apps.Wanted = slices.DeleteFunc(m.apps.Wanted, func(w plan.Want) bool { return w.Hold != "" })
	for _, p := range m.passing {
		m.apps.Wanted = append(m.apps.Wanted, p.want)
	}
}

// dropPassing forgets what has been started, or is not waited for.
func (m *Manager) dropPassing() {
	before := len(m.passing)
	m.passing = slices.DeleteFunc(m.passing, func(p passing) bool {
		return p.ctx.Err() != nil || m.records[p.want.ID()].Starts > 0
	})
	if len(m.passing) < before {
		m.wantPassing()
	}
}

// Held makes the container of a service one in which a person runs a command: with all that the service has, but for
// what only one container can have. hold is the program of the device that is its first process.
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
