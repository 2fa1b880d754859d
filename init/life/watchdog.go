package life

import (
	"context"

	"resinos/bsp/watchdog"
	"resinos/init/boot"
	"resinos/services/pid1"
)

// partLimit is the time in which a part of PID 1 must answer. Once services run, one that does not within a fraction of
// a second is ill; but the supervisor takes no question while it forks the first services, which takes seconds where
// many devices share one processor. So an answer counts as long as there is time for two.
const partLimit = boot.WatchdogTimeout / 3

// feedWatchdog feeds the watchdog while every part of PID 1 makes progress, and during a shutdown until its time is
// over.
func (p *PID1) feedWatchdog() {
	feeder := testWatchdog(p.log) // nil in any binary that is not a test's
	if w := p.system.Watchdog; w != nil {
		if err := w.SetTimeout(boot.WatchdogTimeout); err != nil {
			p.log.Warn("watchdog keeps its timeout", "error", err)
		}
		feeder = w
	}
	if feeder == nil || p.supervisor == nil {
		return
	}
	keeper := &watchdog.Keeper{Watchdog: feeder, Log: p.log, Go: p.guard.Go, Parts: []watchdog.Part{
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
