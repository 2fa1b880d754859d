package life

import (
	"context"
	"slices"

	"resinos/init/ahead"
	"resinos/init/boot"
	"resinos/init/shutdown"
	"resinos/init/splash"
	"resinos/services/config"
	"resinos/services/pid1"
	"resinos/services/spec"
	"resinos/services/spec/precondition"
	"resinos/services/supervise/command"
)

// splashAhead begins to show the splash while the steps of the boot go on.
func (p *PID1) splashAhead(sp spec.Spec, l config.Loaded) {
	if !splash.Plausible(splash.Logo) {
		return // the service says why it refuses the file, when devd has loaded the driver
	}
	p.judge.Take(l)
	p.ahead = &ahead.Start{
		Log: p.log, Reaper: p.reaper, Holds: p.judge.Holds, Output: p.kept.file,
		Screen: splash.Screen, Display: p.Display, Drivers: p.Drivers, Go: p.guard.Go,
		Ask: func(ctx context.Context) error {
			_, err := pid1.Client{}.Change(ctx, pid1.Restart, ahead.Service)
			return err
		},
	}
	p.ahead.Begin(sp)
}

// splash draws the logo once more during the shutdown, after the supervisor and all services have ended.
func (p *PID1) splash() {
	sp, found := boot.Service(ahead.Service) // its faults were reported at the boot
	if !found || sp.Masked || slices.ContainsFunc(sp.Conditions, p.fails) {
		return
	}
	maker := command.Maker{Launcher: "/usr/sbin/init", Log: p.log}
	c, closeOurs, err := maker.Command(&sp, sp.Command, command.Inherited{})
	if err == nil {
		defer closeOurs()
		ctx, cancel := context.WithTimeout(context.Background(), shutdown.SplashLimit)
		defer cancel()
		_, err = p.reaper.Do(ctx, c)
	}
	if err != nil {
		p.log.Warn("no splash while the device goes down", "error", err)
	}
}

func (p *PID1) fails(c precondition.Condition) bool {
	holds, _ := p.judge.Holds(c)
	return !holds
}
