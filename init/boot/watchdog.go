package boot

import (
	"os"
	"time"

	"resinos/bsp/watchdog"
	"resinos/services/pid1"
)

// bootTimeout is that of the watchdog during the boot. A step may take long: a journal to be replayed from a slow card.
const bootTimeout = 60 * time.Second

// WatchdogTimeout is that of the watchdog once services run.
const WatchdogTimeout = 30 * time.Second

// openWatchdog starts the board's watchdog. From here on the boot must make progress.
func (s *System) openWatchdog() error {
	w, err := watchdog.Open(watchdog.Path, bootTimeout)
	if err != nil {
		return err
	}
	s.Watchdog, s.traces.Watchdog = w, w.Fired()
	return nil
}

// ResumeWatchdog continues with the one that the earlier life started; it was not unfed for longer than the exec took.
func (s *System) ResumeWatchdog(f *os.File) { s.Watchdog = watchdog.Take(f) }

// feed is called after each step of the boot: a finished step is progress.
func (s *System) feed() {
	if s.Watchdog == nil {
		return
	}
	if err := s.Watchdog.Feed(); err != nil {
		s.env.Log.Error("watchdog is not fed", "error", err)
	}
}

// BeforePower is what the watchdog gets right before the power goes off. It is stopped only on a device that is halted
// on purpose, and shall stay halted until somebody comes.
func (s *System) BeforePower(action pid1.Power) func() {
	return func() {
		switch {
		case s.Watchdog == nil:
		case action == pid1.Halt:
			_ = s.Watchdog.Release() // one that cannot be stopped ends the halt
		default:
			_ = s.Watchdog.Feed() // the shutdown ends here either way
		}
	}
}
