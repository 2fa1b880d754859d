package spec

import (
	"cmp"
	"slices"
	"time"
)

// settle gives every key that was not said its standing value, and takes out what means nothing
// without another key: an owner's health-command = [] leaves nothing of a shipped health-every.
func (s *Spec) settle(said func(string) bool) {
	or(&s.Type, Simple)
	or(&s.Restart, Always)
	if !said("restart") && s.Type == Oneshot {
		s.Restart = Never
	}
	or(&s.Start, AtBoot)
	if !said("start") && s.Demand() {
		s.Start = OnDemand
	}
	or(&s.WorkingDirectory, "/")
	or(&s.Log, Ring)
	or(&s.StopSignal, "TERM")
	or(&s.KillMode, Group)
	if !said("kill-mode") && s.CgroupDelegate {
		s.KillMode = Process
	}
	or(&s.Confinement.Propagation, Slave)
	if !s.Confinement.OwnMounts() {
		s.Confinement.Propagation = Slave
	}
	if len(s.Conditions) > 1 { // said is the order of a file, which is nobody's wish
		s.Conditions = slices.Clone(s.Conditions)
		slices.SortStableFunc(s.Conditions, func(a, b Condition) int { return cmp.Compare(conditionRank(a), conditionRank(b)) })
	}
	s.settleTimes(said)
	s.settleDemand()
}

func (s *Spec) settleTimes(said func(string) bool) {
	if !said("stop-timeout") {
		s.StopTimeout = DefaultStopTimeout
	}
	if !said("start-timeout") && (s.Type == Notify || s.Ready.Set()) {
		s.StartTimeout = DefaultStartTimeout
	}
	or(&s.RestartLimit, max(DefaultRestartLimit, s.RestartPause))
	or(&s.RestartPause, min(DefaultRestartPause, s.RestartLimit))
	if s.GiveUp.Lives == 0 {
		s.GiveUp = GiveUp{}
	} else {
		or(&s.GiveUp.Within, time.Minute)
	}
	if len(s.Health.Command) == 0 {
		s.Health = Health{}
	} else {
		or(&s.Health.Every, DefaultHealthEvery)
		or(&s.Health.Timeout, DefaultHealthTimeout)
		or(&s.Health.Retries, DefaultHealthRetries)
	}
}

func (s *Spec) settleDemand() {
	if !s.Timer.Set() {
		s.Timer = Timer{}
	}
	if len(s.Listen.Sockets) == 0 {
		s.Listen = Listen{}
		return
	}
	or(&s.Listen.Mode, DefaultListenMode)
	or(&s.Listen.Max, DefaultListenMax)
	if !s.Listen.Each {
		s.Listen.Max = DefaultListenMax
	}
}

// or gives a field that was left out its standing value.
func or[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
