package spec

import "time"

// defaults returns s with every key that was not set given its standing value.
func (s Spec) defaults(set map[string]bool) Spec {
	or(&s.Type, Simple)
	or(&s.Restart, Always)
	if !set["restart"] && s.Type == Oneshot {
		s.Restart = Never
	}
	or(&s.Start, AtBoot)
	if !set["start"] && s.Demand() {
		s.Start = OnDemand
	}
	or(&s.WorkingDirectory, "/")
	or(&s.Log, Ring)
	or(&s.StopSignal, "TERM")
	or(&s.Sandbox.Propagation, Slave)
	or(&s.KillMode, Group)
	if !set["kill-mode"] && s.CgroupDelegate {
		s.KillMode = Process
	}
	return s.times(set)
}

func (s Spec) times(set map[string]bool) Spec {
	if !set["stop-timeout"] {
		s.StopTimeout = DefaultStopTimeout
	}
	if !set["start-timeout"] && (s.Type == Notify || s.Ready.Set()) {
		s.StartTimeout = DefaultStartTimeout
	}
	or(&s.RestartPause, DefaultRestartPause)
	or(&s.RestartLimit, DefaultRestartLimit)
	if s.GiveUp.Lives > 0 {
		or(&s.GiveUp.Within, time.Minute)
	}
	if len(s.Health.Command) > 0 {
		or(&s.Health.Every, DefaultHealthEvery)
		or(&s.Health.Timeout, DefaultHealthTimeout)
		or(&s.Health.Retries, DefaultHealthRetries)
	}
	if len(s.Listen.Sockets) > 0 {
		or(&s.Listen.Mode, DefaultListenMode)
		or(&s.Listen.Max, DefaultListenMax)
	}
	return s
}

// or gives a field that was left out its standing value.
func or[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
