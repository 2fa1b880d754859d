package boot

import (
	"context"
	"os"
	"time"

	"resinos/bsp/watchdog"
	"resinos/services/boottime"
	"resinos/services/pid1"
)

// The times of the watchdog. A step of the boot may take long (a journal to be replayed from a slow card); once services run,
// a part of PID 1 that does not answer within a fraction of a second is ill. But the supervisor takes no question while it forks
// the first services, which takes seconds where many devices share one processor; so an answer counts as long as there is time for two.
const (
	bootTimeout = 60 * time.Second
	dogTimeout  = 30 * time.Second
	partLimit   = dogTimeout / 3
)

// openDog starts the board's watchdog. From here on the boot must make progress.
func (s *system) openDog() error {
	dog, err := watchdog.Open(watchdog.Path, bootTimeout)
	if err != nil {
		return err
	}
	s.dog, s.traces.Dog = dog, dog.Fired()
	return nil
}

// resumeDog goes on with the one that the earlier life started; it was not unfed for a moment more than the exec took.
func (s *system) resumeDog(f *os.File) { s.dog = watchdog.Take(f) }

// feed is called after each step of the boot: a finished step is progress.
func (s *system) feed() {
	if s.dog == nil {
		return
	}
	if err := s.dog.Feed(); err != nil {
		s.log.Error("watchdog is not fed", "error", err)
	}
}

// lastMeal is what the watchdog gets right before the power goes. Only a board that is halted on purpose, and shall stay halted
// until somebody comes, has its dog put away.
func (s *system) lastMeal(action pid1.Power) func() {
	return func() {
		if s.dog == nil {
			return
		}
		if action == pid1.Halt {
			_ = s.dog.Release() // a dog that cannot be stopped ends the halt
			return
		}
		_ = s.dog.Feed() // the way down ends here either way
	}
}

// keepDog feeds the watchdog while every part of PID 1 makes progress, and on the way down until the hard limit.
func (p *PID1) keepDog() {
	feeder := testDog(p.log) // nil in any binary that is not a test's
	if dog := p.system.dog; dog != nil {
		if err := dog.SetTimeout(dogTimeout); err != nil {
			p.log.Warn("watchdog keeps its timeout", "error", err)
		}
		feeder = dog
	}
	if feeder == nil || p.supervisor == nil {
		return
	}
	keeper := &watchdog.Keeper{Dog: feeder, Log: p.log, Go: p.guard.Go, Parts: []watchdog.Part{
		{Name: "reaper", Limit: partLimit, Ask: p.unlessGoing(p.reaper.Nudge)},
		{Name: nameSupervisor, Limit: partLimit, Ask: p.unlessGoing(p.supervisor.Ping)},
		{Name: "control", Limit: partLimit, Ask: p.unlessGoing(func(ctx context.Context) error {
			return pid1.Client{}.Ping(ctx) // through the socket and PID 1's own loop
		})},
	}}
	_ = keeper.Run(context.Background()) // returns never: the dog is fed or bites
}

// unlessGoing wants progress of a part; once the device goes down it is enough that the time for that is not over. After a re-exec
// that failed for good neither reaper nor loop moves any more, and the way down is all that is left.
func (p *PID1) unlessGoing(ask func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if d := p.going(); d != nil && boottime.Now()-d.since < hardLimit {
			return nil
		}
		return ask(ctx)
	}
}
