package supervise

import (
	"errors"

	"resinos/services/spec"
	"resinos/services/supervise/handle"
	"resinos/services/supervise/lifecycle"
)

var errStopped = errors.New("not started: asked to stop meanwhile")

// checkConditions has the conditions of service i checked beside the loop.
func (s *Supervisor) checkConditions(i int) {
	h := s.handles[i]
	h.Checks.Conditions(s.checks, &s.world.Specs[i], func(why string, err error) {
		if s.byID[h.ID] == h { // else the service was forgotten meanwhile
			s.conditionsChecked(h, why, err)
		}
	})
}

// conditionsChecked starts a service whose conditions hold, or opens its sockets. The service may have been stopped
// meanwhile.
func (s *Supervisor) conditionsChecked(h *handle.Handle, why string, err error) {
	in := lifecycle.Input{}
	switch {
	case err != nil:
		in = lifecycle.Input{Event: lifecycle.Exit, Err: err}
	case why != "":
		in = lifecycle.Input{Event: lifecycle.Skip, Why: why}
	}
	switch s.world.Services[h.Num].Phase {
	case lifecycle.Starting:
		if in.Event == lifecycle.None {
			in = s.startProcess(h.Num)
		}
	case lifecycle.Armed:
		if in.Event == lifecycle.None {
			var answered bool
			if in, answered = s.startListening(h.Num); !answered {
				s.requests.Touch(h.ID) // its conditions are not pending any more
				s.answer()
				return
			}
		}
	case lifecycle.Leaving, lifecycle.Stopping, lifecycle.Killing:
		in = lifecycle.Input{Event: lifecycle.Exit, Err: errStopped}
	default:
		return // a service without a main process is stopped at once
	}
	s.feed(h.Num, in)
}

// probeReady begins to check whether a service is up.
func (s *Supervisor) probeReady(sp *spec.Spec, h *handle.Handle) {
	h.Checks.Ready(s.checks, sp, func(err error) {
		if err != nil {
			s.feed(h.Num, lifecycle.Input{Event: lifecycle.Sick, Why: err.Error()})
			return
		}
		s.feed(h.Num, lifecycle.Input{Event: lifecycle.Ready})
	})
}

// probeHealth begins to check whether a service that is up is healthy.
func (s *Supervisor) probeHealth(sp *spec.Spec, h *handle.Handle) {
	h.Checks.Health(s.checks, sp, func(err error) {
		s.feed(h.Num, lifecycle.Input{Event: lifecycle.Sick,
			Why: err.Error()})
	})
}
