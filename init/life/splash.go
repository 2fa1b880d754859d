package life

import (
	"context"
	"slices"

	"resinos/init/boot"
	"resinos/init/shutdown"
	"resinos/services/spec"
	"resinos/services/spec/precondition"
	"resinos/services/supervise/command"
)

// splashService is the service that draws the owner's logo.
const splashService = "splash"

// splash has the service draw once more while the device goes down, when the supervisor has ended with all services.
func (p *PID1) splash() {
	specs, _ := boot.Services() // their faults were told at the boot
	at := slices.IndexFunc(specs, func(s spec.Spec) bool { return s.Name == splashService })
	if at < 0 || specs[at].Masked || slices.ContainsFunc(specs[at].Conditions, p.fails) {
		return
	}
	maker := command.Maker{Launcher: "/usr/sbin/init", Log: p.log}
	c, closeOurs, err := maker.Command(&specs[at], specs[at].Command, command.Inherited{})
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
