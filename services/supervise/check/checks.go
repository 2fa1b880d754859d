package check

import (
	"context"

	"resinos/services/probe"
	"resinos/services/proc"
	"resinos/services/spec"
)

// Checks are the checks of one service. All methods are for the supervisor's loop, which also calls their callbacks.
type Checks struct {
	looking          chan struct{} // holds a token while a goroutine checks the conditions
	number           int           // of the latest check of the conditions
	pending          bool          // it has no result yet
	cancelConditions func()        // nil when there is nothing to end
	cancelProbe      func()        // the same
	failures         int           // of health checks in a row
}

// Conditions checks whether the conditions of sp hold, and has the loop call done: why says in words what does not
// hold, err why nobody knows. A result that comes after the next check has begun is ignored.
func (c *Checks) Conditions(r *Runner, sp *spec.Spec, done func(why string, err error)) {
	if c.looking == nil {
		c.looking = make(chan struct{}, 1)
	}
	c.EndConditions()
	c.number++
	c.pending = true
	name, looking, number, conditions := sp.Name, c.looking, c.number, sp.Conditions
	c.cancelConditions = r.run("check conditions "+name, func(ctx context.Context) {
		look := func(look func()) { r.Guard.Go("look "+name, func() { proc.Deaf(look) }) }
		why, err := probe.Conditions(ctx, looking, conditions, r.Holds, look)
		r.Calls.Post(r.ctx, func() { // not ctx: the supervisor waits for the result of a check that it has ended
			if c.number == number {
				c.pending = false
				c.EndConditions()
				done(why, err)
			}
		})
	})
}

// Pending reports whether the conditions are being checked.
func (c *Checks) Pending() bool { return c.pending }

// EndConditions ends the check of the conditions: its result is an error.
func (c *Checks) EndConditions() {
	if c.cancelConditions != nil {
		c.cancelConditions()
		c.cancelConditions = nil
	}
}

// Ready waits until the service is up, in the way that its file says, and has the loop call done: with an error if it
// will not be.
func (c *Checks) Ready(r *Runner, sp *spec.Spec, done func(error)) {
	if !sp.Ready.Set() {
		return
	}
	c.probe(r, "probe ready "+sp.Name, func(ctx context.Context) {
		err := probe.Ready(ctx, sp.Ready, r.Command(sp))
		if ctx.Err() == nil {
			r.Calls.Post(ctx, func() { done(err) })
		}
	})
}

// Health checks the health of a service that is up, in the way that its file says, and has the loop call failed when it
// is unhealthy.
func (c *Checks) Health(r *Runner, sp *spec.Spec, failed func(error)) {
	if len(sp.Health.Command) == 0 {
		return
	}
	c.probe(r, "probe health "+sp.Name, func(ctx context.Context) {
		report := func(failures int, err error) { r.Calls.Post(ctx, func() { c.report(r, sp.Name, failures, err) }) }
		err := probe.Health(ctx, sp.Health, r.Command(sp), report)
		if ctx.Err() == nil && err != nil {
			r.Calls.Post(ctx, func() { failed(err) })
		}
	})
}

func (c *Checks) report(r *Runner, service string, failures int, err error) {
	if c.failures != failures && err != nil {
		r.Log.Warn("service unhealthy", "service", service, "failures", failures, "error", err)
	}
	c.failures = failures
}

// Failures counts the health checks that failed in a row.
func (c *Checks) Failures() int { return c.failures }

// EndProbes ends Ready and Health: their callbacks are not called any more.
func (c *Checks) EndProbes() {
	if c.cancelProbe != nil {
		c.cancelProbe()
		c.cancelProbe = nil
	}
	c.failures = 0
}

func (c *Checks) probe(r *Runner, name string, do func(context.Context)) {
	c.EndProbes()
	c.cancelProbe = r.run(name, do)
}
