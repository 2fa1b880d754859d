package watchdog

import (
	"context"
	"log/slog"
	"strings"
	"time"
)

// Part is one part of the process that must move for the watchdog to be fed.
type Part struct {
	Name  string
	Limit time.Duration // within which it answers
	// Ask returns nil once the part has really done something. It gives up when ctx ends.
	Ask func(ctx context.Context) error
}

// Decide says whether the watchdog may be fed: when every part has moved since it was fed last. Otherwise stuck names
// those that have not. moved holds the time of each part's last move, zero for never.
func Decide(fed time.Time, moved map[string]time.Time, parts []Part) (feed bool, stuck []string) {
	for _, p := range parts {
		if !moved[p.Name].After(fed) {
			stuck = append(stuck, p.Name)
		}
	}
	return len(stuck) == 0, stuck
}

// Feeder is what a Keeper needs of a Timer.
type Feeder interface {
	Feed() error
	Timeout() time.Duration
}

// Keeper feeds a watchdog as long as all parts move.
type Keeper struct {
	Watchdog Feeder
	Parts    []Part
	Log      *slog.Logger
	// Go starts a goroutine of the Keeper; nil is the go statement.
	Go func(name string, f func())

	fed   time.Time
	moved map[string]time.Time
	due   map[string]time.Time // when a part is asked next; none while it is being asked
	said  bool
}

// answer is what a part said.
type answer struct {
	part      string
	began, at time.Time
	err       error
}

// Run asks each part four times a timeout, one that gave up again soon, and feeds the watchdog when all have moved. It
// was fed a moment ago: who opens it feeds it. It returns ctx's cause; the watchdog continues. A part that does not
// even give up in time is not asked again before it does, so that no goroutines pile up.
func (k *Keeper) Run(ctx context.Context) error {
	k.fed = time.Now()
	k.moved, k.due = map[string]time.Time{}, map[string]time.Time{}
	for _, p := range k.Parts {
		k.due[p.Name] = k.fed
	}
	answers := make(chan answer, len(k.Parts)) // each part is asked once at a time: never blocks
	for {
		k.ask(ctx, answers)
		wake := time.NewTimer(time.Until(k.next()))
		select {
		case <-ctx.Done():
			wake.Stop()
			return context.Cause(ctx)
		case a := <-answers:
			wake.Stop()
			k.hear(a)
		case <-wake.C:
		}
		k.complain(time.Now())
	}
}

// next is when there is something to do without an answer: a part to be asked, or the hunger to be told.
func (k *Keeper) next() time.Time {
	next := k.fed.Add(k.Watchdog.Timeout() / 2)
	if k.said {
		next = time.Now().Add(k.Watchdog.Timeout())
	}
	for _, at := range k.due {
		if at.Before(next) {
			next = at
		}
	}
	return next
}

func (k *Keeper) ask(ctx context.Context, answers chan<- answer) {
	start := k.Go
	if start == nil {
		start = func(_ string, f func()) { go f() }
	}
	now := time.Now()
	for _, p := range k.Parts {
		if at, idle := k.due[p.Name]; !idle || at.After(now) {
			continue
		}
		delete(k.due, p.Name)
		start("watchdog "+p.Name, func() { // ends when the part answers or gives up
			limited, cancel := context.WithTimeout(ctx, p.Limit)
			defer cancel()
			err := p.Ask(limited)
			answers <- answer{p.Name, now, time.Now(), err}
		})
	}
}

func (k *Keeper) hear(a answer) {
	if a.err != nil {
		k.due[a.part] = a.at.Add(k.Watchdog.Timeout() / 32)
		return
	}
	k.due[a.part] = a.began.Add(k.Watchdog.Timeout() / 4)
	k.moved[a.part] = a.at
	feed, _ := Decide(k.fed, k.moved, k.Parts)
	if !feed {
		return
	}
	if err := k.Watchdog.Feed(); err != nil {
		k.Log.Error("watchdog is not fed", "error", err)
		return
	}
	now := time.Now()
	if k.said {
		k.Log.Warn("watchdog is fed again", "after", now.Sub(k.fed))
	}
	k.fed, k.said = now, false
}

// complain says once that the watchdog is not fed, for how long, how long it still waits, and because of which part.
// Before half of its time is gone nothing is in danger: a part may be slow.
func (k *Keeper) complain(now time.Time) {
	unfed := now.Sub(k.fed)
	if k.said || unfed < k.Watchdog.Timeout()/2 {
		return
	}
	k.said = true
	_, stuck := Decide(k.fed, k.moved, k.Parts)
	if len(stuck) == 0 {
		return // the feeding itself failed, and is reported
	}
	k.Log.Error("watchdog is not fed: pid 1 makes no progress", "daemon", strings.Join(stuck, ", "), "after", unfed,
		"wait", k.Watchdog.Timeout()-unfed)
}
