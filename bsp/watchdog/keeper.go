package watchdog

import (
	"context"
	"log/slog"
	"strings"
	"time"
)

// Part is one part of the process that must move for the dog to be fed.
type Part struct {
	Name  string
	Limit time.Duration // within which it answers
	// Ask returns nil once the part has really done something. It gives up when ctx ends.
	Ask func(ctx context.Context) error
}

// Decide says whether the dog may be fed: when every part has moved since it was fed last. Otherwise stuck names those that
// have not. moved holds the time of each part's last move, zero for never.
func Decide(fed time.Time, moved map[string]time.Time, parts []Part) (feed bool, stuck []string) {
	for _, p := range parts {
		if !moved[p.Name].After(fed) {
			stuck = append(stuck, p.Name)
		}
	}
	return len(stuck) == 0, stuck
}

// Feeder is what a Keeper needs of a Dog.
type Feeder interface {
	Feed() error
	Timeout() time.Duration
}

// Keeper feeds a dog as long as all parts move.
type Keeper struct {
	Dog   Feeder
	Parts []Part
	Log   *slog.Logger
	// Go starts a goroutine of the Keeper; nil is the go statement.
	Go func(name string, f func())

	fed   time.Time
	moved map[string]time.Time
	busy  map[string]bool
	said  bool
}

// answer is what a part said.
type answer struct {
	part string
	at   time.Time
	err  error
}

// Run asks all parts four times a timeout, and feeds the dog when all have moved. It returns ctx's cause; the dog goes on.
// A part that does not even give up in time is not asked again before it does, so that no goroutines pile up.
func (k *Keeper) Run(ctx context.Context) error {
	k.moved, k.busy = map[string]time.Time{}, map[string]bool{}
	answers := make(chan answer, len(k.Parts)) // each part is asked once at a time: never blocks
	for {
		round := time.NewTimer(k.Dog.Timeout() / 4)
		k.ask(ctx, answers)
		for over := false; !over; {
			select {
			case <-ctx.Done():
				round.Stop()
				return context.Cause(ctx)
			case a := <-answers:
				k.hear(a)
			case <-round.C:
				over = true
			}
		}
		k.complain()
	}
}

func (k *Keeper) ask(ctx context.Context, answers chan<- answer) {
	start := k.Go
	if start == nil {
		start = func(_ string, f func()) { go f() }
	}
	for _, p := range k.Parts {
		if k.busy[p.Name] {
			continue
		}
		k.busy[p.Name] = true
		start("watchdog "+p.Name, func() { // ends when the part answers or gives up
			limited, cancel := context.WithTimeout(ctx, p.Limit)
			defer cancel()
			err := p.Ask(limited)
			answers <- answer{p.Name, time.Now(), err}
		})
	}
}

func (k *Keeper) hear(a answer) {
	k.busy[a.part] = false
	if a.err != nil {
		return
	}
	k.moved[a.part] = a.at
	feed, _ := Decide(k.fed, k.moved, k.Parts)
	if !feed {
		return
	}
	if err := k.Dog.Feed(); err != nil {
		k.Log.Error("watchdog is not fed", "error", err)
		return
	}
	k.fed, k.said = time.Now(), false
}

// complain says once that the dog goes hungry, and because of whom.
func (k *Keeper) complain() {
	if k.said || time.Since(k.fed) < k.Dog.Timeout()/2 {
		return
	}
	_, stuck := Decide(k.fed, k.moved, k.Parts)
	if len(stuck) == 0 {
		return // the feeding itself failed, and was told
	}
	k.said = true
	k.Log.Error("watchdog is not fed: pid 1 makes no progress", "daemon", strings.Join(stuck, ", "))
}
