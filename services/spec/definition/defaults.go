package definition

import (
	"cmp"
	"slices"
	"time"

	"resinos/services/spec"
	"resinos/services/spec/precondition"
)

// settle gives every key that was not said its standing value, and takes out what means nothing
// without another key: an owner's health-command = [] leaves nothing of a shipped health-every.
func settle(s *spec.Spec, said func(string) bool) {
	or(&s.Type, spec.Simple)
	or(&s.Restart, spec.Always)
	if !said("restart") && s.Type == spec.Oneshot {
		s.Restart = spec.Never
	}
	or(&s.Start, spec.AtBoot)
	if !said("start") && s.Demand() {
		s.Start = spec.OnDemand
	}
	or(&s.WorkingDirectory, "/")
	or(&s.Log, spec.Ring)
	or(&s.StopSignal, "TERM")
	or(&s.KillMode, spec.Group)
	if !said("kill-mode") && s.CgroupDelegate {
		s.KillMode = spec.Process
	}
	or(&s.Confinement.Propagation, spec.Slave)
	if !s.Confinement.OwnMounts() {
		s.Confinement.Propagation = spec.Slave
	}
	if len(s.Conditions) > 1 { // said is the order of a file, which is nobody's wish
		s.Conditions = slices.Clone(s.Conditions)
		slices.SortStableFunc(s.Conditions,
			func(a, b precondition.Condition) int { return cmp.Compare(conditionRank(a), conditionRank(b)) })
	}
	settleTimes(s, said)
	settleDemand(s)
}

func settleTimes(s *spec.Spec, said func(string) bool) {
	if !said("stop-timeout") {
		s.StopTimeout = spec.DefaultStopTimeout
	}
	if !said("start-timeout") && (s.Type == spec.Notify || s.Ready.Set()) {
		s.StartTimeout = spec.DefaultStartTimeout
	}
	or(&s.RestartLimit, max(spec.DefaultRestartLimit, s.RestartPause))
	or(&s.RestartPause, min(spec.DefaultRestartPause, s.RestartLimit))
	if s.GiveUp.Lives == 0 {
		s.GiveUp = spec.GiveUp{}
	} else {
		or(&s.GiveUp.Within, time.Minute)
	}
	if len(s.Health.Command) == 0 {
		s.Health = spec.Health{}
	} else {
		or(&s.Health.Every, spec.DefaultHealthEvery)
		or(&s.Health.Timeout, spec.DefaultHealthTimeout)
		or(&s.Health.Retries, spec.DefaultHealthRetries)
	}
}

func settleDemand(s *spec.Spec) {
	s.ListenStored = s.ListenStored && s.FDStore > 0
	if !s.Timer.Set() {
		s.Timer = spec.Timer{}
	}
	if len(s.Listen.Sockets) == 0 {
		s.Listen = spec.Listen{}
		return
	}
	or(&s.Listen.Mode, spec.DefaultListenMode)
	or(&s.Listen.Max, spec.DefaultListenMax)
	if !s.Listen.Each {
		s.Listen.Max = spec.DefaultListenMax
	}
}

// or gives a field that was left out its standing value.
func or[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// conditionRank is the order in which conditions are asked and written.
func conditionRank(c precondition.Condition) int {
	return slices.Index([]precondition.Kind{precondition.Path, precondition.Config, precondition.Cmdline,
		precondition.Board, precondition.Device}, c.Kind)
}
