package boot

import (
	"context"
	"os"
	"time"

	"resinos/bsp/watchdog"
	"resinos/services/pid1"
)

// The times of the watchdog. A step of the boot may take long (a journal to be replayed from a slow card); once services run,
// a part of PID 1 that does not answer within a fraction of a second is ill. But the supervisor takes no question while it forks
// the first services, which takes seconds where many devices share one processor; so an answer counts as long as there is time for two.
const (
	bootTimeout    = 60 * time.Second
	serviceTimeout = 30 * time.Second
	partLimit      = serviceTimeout / 3
)

// openWatchdog starts the board's watchdog. From here on the boot must make progress.
func (s *system) openWatchdog() error {
	w, err := watchdog.Open(watchdog.Path, bootTimeout)
	if err != nil {
		return err
	}
	s.watchdog, s.traces.Watchdog = w, w.Fired()
	return nil
}

// resumeWatchdog continues with the one that the earlier life started; it was not unfed for longer than the exec took.
func (s *system) resumeWatchdog(f *os.File) { s.watchdog = watchdog.Take(f) }

// feed is called after each step of the boot: a finished step is progress.
func (s *system) feed() {
	if s.watchdog == nil {
		return
	}
	if err := s.watchdog.Feed(); err != nil {
		s.log.Error("watchdog is not fed", "error", err)
	}
}

// beforePower is what the watchdog gets right before the power goes off. It is stopped only on a device that is halted on
// purpose, and shall stay halted until somebody comes.
func (s *system) beforePower(action pid1.Power) func() {
	return func() {
		switch {
		case s.watchdog == nil:
		case action == pid1.Halt:
			_ = s.watchdog.Release() // one that cannot be stopped ends the halt
		default:
			_ = s.watchdog.Feed() // the shutdown ends here either way
		}
	}
}

// feedWatchdog feeds the watchdog while every part of PID 1 makes progress, and during a shutdown until its time is over.
func (p *PID1) feedWatchdog() {
	feeder := testWatchdog(p.log) // nil in any binary that is not a test's
	if w := p.system.watchdog; w != nil {
		if err := w.SetTimeout(serviceTimeout); err != nil {
			p.log.Warn("watchdog keeps its timeout", "error", err)
		}
		feeder = w
	}
	if feeder == nil || p.supervisor == nil {
		return
	}
	keeper := &watchdog.Keeper{Dog: feeder, Log: p.log, Go: p.guard.Go, Parts: []watchdog.Part{
		{Name: "reaper", Limit: partLimit, Ask: p.unlessGoingDown(p.reaper.Nudge)},
		{Name: nameSupervisor, Limit: partLimit, Ask: p.unlessGoingDown(p.supervisor.Ping)},
		{Name: "control", Limit: partLimit, Ask: p.unlessGoingDown(func(ctx context.Context) error {
			return pid1.Client{}.Ping(ctx) // through the socket and PID 1's own loop
		})},
	}}
	_ = keeper.Run(context.Background()) // it never returns: the watchdog is fed, or resets the device
}

// unlessGoingDown wants progress of a part; once the device goes down it is enough that the time for that is not over.
// After a re-exec that failed for good neither reaper nor loop moves any more, and the shutdown is all that is left.
func (p *PID1) unlessGoingDown(ask func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if d := p.goingDown(); d != nil && !d.Overdue() {
			return nil
		}
		return ask(ctx)
	}
}
