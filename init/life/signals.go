package life

import (
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"resinos/services/pid1"
)

// powerSignals are the signals that ask for a power action at once.
var powerSignals = map[os.Signal]pid1.Power{syscall.SIGTERM: pid1.Reboot, syscall.SIGUSR1: pid1.PowerOff,
	syscall.SIGUSR2: pid1.PowerOff}

// doublePress is the time in which the second Ctrl-Alt-Del must follow the first.
const doublePress = 10 * time.Second

// signalPolicy decides what a signal does to PID 1:
//
//	INT           Ctrl-Alt-Del, or kill -INT 1: twice within ten seconds reboots; once is logged
//	TERM          reboots
//	USR1, USR2    power off: the signals of halt and poweroff; a device that halts and stays on is of no use
//	all others    logged and ignored
//
// A single INT does nothing, because a stray one must not reboot a device; a person presses again. TERM, USR1 and USR2
// have the meaning that busybox's init (its halt.c) and finit give them: busybox's shell runs its own reboot, halt and
// poweroff before any program of these names, and these only send PID 1 a signal. The policy is pure except for its own
// memory: the caller passes the time.
type signalPolicy struct {
	pressed time.Duration // when the last INT arrived; 0 is never
	logged  time.Duration // start of the second in which lines are counted
	lines   int
}

// maxLines bounds the lines about signals in one second.
const maxLines = 10

// step returns the power action that the signal asks for, if any, and whether the signal may be logged.
func (p *signalPolicy) step(now time.Duration, s os.Signal) (action pid1.Power, say bool) {
	if now-p.logged >= time.Second {
		p.logged, p.lines = now, 0
	}
	p.lines++
	say = p.lines <= maxLines
	if s != syscall.SIGINT {
		return powerSignals[s], say
	}
	again := p.pressed != 0 && now-p.pressed <= doublePress
	p.pressed = now
	if again {
		return pid1.Reboot, say
	}
	return "", say
}

// logSignal logs a signal that had no effect.
func logSignal(log *slog.Logger, s os.Signal) {
	if s == syscall.SIGINT {
		log.Warn("ctrl-alt-del or interrupt: press again within 10 s to reboot")
		return
	}
	log.Warn("signal ignored; to go down: osctl poweroff, osctl reboot", "signal", signalName(s))
}

func signalName(s os.Signal) string {
	number, _ := s.(syscall.Signal) // on Linux every os.Signal is one
	return fmt.Sprintf("%d (%v)", int(number), number)
}
