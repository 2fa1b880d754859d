package boot

import (
	"os"
	"time"

	"resinos/bsp/watchdog"
	"resinos/services/pid1"
)

// bootTimeout is the watchdog's timeout during the boot. A step may take long, such as a journal that is replayed from
// a slow card.
const bootTimeout = 60 * time.Second

// WatchdogTimeout is the watchdog's timeout once services run.
const WatchdogTimeout = 30 * time.Second

// openWatchdog starts the board's watchdog. From now on it resets the device if the boot makes no progress.
func (s *System) openWatchdog() error {
	w, err := watchdog.Open(watchdog.Path, bootTimeout)
	if err != nil {
		return err
	}
	s.Watchdog, s.traces.Watchdog = w, w.Fired()
	return nil
}

// ResumeWatchdog continues to feed the watchdog that the earlier life started. It was not fed during the exec only.
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

// BeforePower stops or feeds the watchdog right before the power goes off. It stops the watchdog only on a device that
// is halted on purpose and is to stay halted until somebody switches it on.
func (s *System) BeforePower(action pid1.Power) func() {
	return func() {
		switch {
		case s.Watchdog == nil:
		case action == pid1.Halt:
			_ = s.Watchdog.Release() // a watchdog that cannot be stopped resets the halted device
		default:
			_ = s.Watchdog.Feed() // the shutdown ends here either way
		}
	}
}
