package supervise

import (
	"context"
	"fmt"

	"resinos/services/probe"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise/command"
	"resinos/services/supervise/lifecycle"
)

// verdicts of probes come to the loop as calls: see report.

// probeReady begins to ask whether a service is up, where its file says how.
func (s *Supervisor) probeReady(sp *spec.Spec, l *life) {
	if !sp.Ready.Set() {
		return
	}
	pipe := l.descriptors.Ready
	s.beginProbe(l, "probe ready "+sp.Name, func(ctx context.Context) {
		err := probe.Ready(ctx, sp.Ready, pipe, s.runner(sp))
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.report(ctx, l, lifecycle.Input{Event: lifecycle.Sick, Why: err.Error()})
			return
		}
		s.report(ctx, l, lifecycle.Input{Event: lifecycle.Ready})
	})
}

// probeHealth watches over a service that is up, where its file says how.
func (s *Supervisor) probeHealth(sp *spec.Spec, l *life) {
	if len(sp.Health.Command) == 0 {
		return
	}
	s.beginProbe(l, "probe health "+sp.Name, func(ctx context.Context) {
		tell := func(failures int, err error) {
			s.calls.Post(ctx, func() {
				if ctx.Err() == nil { // else it is about a life that is over
					s.unwell(l, failures, err)
				}
			})
		}
		err := probe.Health(ctx, sp.Health, s.runner(sp), tell)
		if ctx.Err() == nil && err != nil {
			s.report(ctx, l, lifecycle.Input{Event: lifecycle.Sick, Why: err.Error()})
		}
	})
}

func (s *Supervisor) unwell(l *life, failures int, err error) {
	if l.sick != failures && err != nil {
		s.log.Warn("service unhealthy", "service", s.name(l.num), "failures", failures, "error", err)
	}
	l.sick = failures
}

// beginProbe runs ask beside the loop until the life moves on.
func (s *Supervisor) beginProbe(l *life, name string, ask func(context.Context)) {
	l.endProbes()
	ctx, cancel := context.WithCancel(s.background)
	l.probing = cancel
	s.helpers.Add(1)
	s.cfg.Guard.Go(name, func() {
		defer s.helpers.Done()
		ask(ctx)
	})
}

// report feeds what a probe found.
func (s *Supervisor) report(ctx context.Context, l *life, in lifecycle.Input) {
	s.calls.Post(ctx, func() { s.feed(l.num, in) })
}

// runner runs a command of the service beside its main process, and waits for its end.
func (s *Supervisor) runner(sp *spec.Spec) func(context.Context, []string) error {
	return func(ctx context.Context, argv []string) error {
		over := make(chan proc.Status, 1)
		p, err := s.beside(sp, argv, command.Inherited{}, func(st proc.Status) { over <- st })
		if err != nil {
			return err
		}
		select {
		case st := <-over:
			return outcome(argv, st)
		case <-ctx.Done():
		}
		_ = p.Signal(9) // one that has ended meanwhile is as good
		<-over
		return context.Cause(ctx)
	}
}

func outcome(argv []string, st proc.Status) error {
	if st.OK() {
		return nil
	}
	return fmt.Errorf("run %s: %s", argv[0], st)
}
