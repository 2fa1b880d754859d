package alarm

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestAlarm: with whatever is planned, moved and taken back, it rings at each deadline, in order, and for nothing else.
func TestAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 2))
		const many = 20
		a := New(many)
		defer a.Stop()
		var want [many]time.Time
		for range 2000 {
			if n := rng.IntN(many); rng.IntN(5) == 0 {
				want[n] = time.Time{}
				a.Plan(n, want[n])
			} else {
				want[n] = time.Now().Add(time.Duration(1+rng.IntN(50)) * time.Second)
				a.Plan(n, want[n])
			}
			var also time.Time
			if rng.IntN(4) == 0 {
				also = time.Now().Add(500 * time.Millisecond)
			}
			a.Set(also)
			pause := time.After(time.Second)
			for waiting := true; waiting; {
				select {
				case <-pause:
					waiting = false
				case <-a.C():
					now := time.Now()
					a.Rang()
					taken := 0
					for n, ok := a.Due(now); ok; n, ok = a.Due(now) {
						taken++
						if !want[n].Equal(now) {
							t.Fatalf("at %v it rings for %d, whose deadline is %v", now, n, want[n])
						}
						want[n] = time.Time{}
					}
					if taken == 0 && !now.Equal(also) {
						t.Fatalf("at %v it rings for nothing", now)
					}
					a.Set(time.Time{})
				}
			}
			for n, at := range want {
				if !at.IsZero() && at.Before(time.Now()) {
					t.Fatalf("at %v the deadline %v of %d is over", time.Now(), at, n)
				}
			}
		}
	})
}
