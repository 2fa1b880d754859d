package life

import (
	"context"

	"resinos/bsp/watchdog"
	"resinos/init/boot"
	"resinos/services/pid1"
)

// partLimit is the time in which a part of PID 1 must answer. Once services run, a part answers within a fraction of a
// second; but while the supervisor forks the first services it answers nothing, which takes seconds where many devices
// share one processor. The limit is a third of the watchdog's timeout, so that a part can miss it once before the
// device is reset.
const partLimit = boot.WatchdogTimeout / 3

// feedWatchdog feeds the watchdog while every part of PID 1 makes progress, and during a shutdown until its time is
// over.
func (p *PID1) feedWatchdog() {
	feeder := testWatchdog(p.log) // nil except in test binaries
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
	_ = keeper.Run(context.Background()) // Run never returns: it feeds the watchdog, or the watchdog resets the device
}

// unlessGoingDown demands progress of a part. During a shutdown it demands only that the time for the shutdown is not
// over: after a re-exec that failed for good, reaper and loop stand still, and only the shutdown runs.
func (p *PID1) unlessGoingDown(ask func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if d := p.goingDown(); d != nil && !d.Overdue() {
			return nil
		}
		return ask(ctx)
	}
}
