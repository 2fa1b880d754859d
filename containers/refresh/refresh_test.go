package refresh

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"resinos/containers/app"
	"resinos/containers/store"
)

func TestDue(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, c := range []struct {
		policy string
		ago    time.Duration
		fresh  bool
		want   bool
	}{
		{"always", 0, false, true},
		{"always", 100 * time.Hour, true, false},
		{"every_24h0m0s", 24 * time.Hour, false, true},
		{"every_24h0m0s", 24 * time.Hour, true, true},
		{"every_24h0m0s", 23 * time.Hour, false, false},
		{"every_24h0m0s", -time.Hour, false, false}, // the clock was set back
		{"every_x", time.Hour, false, false},
		{"never", time.Hour, false, false},
		{"", time.Hour, false, false},
	} {
		if got := Due(c.policy, now.Add(-c.ago), now, c.fresh); got != c.want {
			t.Errorf("Due(%q, %v ago, %t) = %t", c.policy, c.ago, c.fresh, got)
		}
	}
}

// TestRun: always is pulled once, however long the device runs, and again and again until that has worked; daily each
// day. What lacks is left to others.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		came := map[string]time.Time{"always": time.Now(), "daily": time.Now()}
		var pulled []string
		offline := true
		r := Refresher{
			Wanted: func() []store.Refresh {
				return []store.Refresh{{Image: "always", Policy: "always"}, {Image: "always", Policy: "every_1000h"},
					{Image: "daily", Policy: "every_24h"}, {Image: "lacking", Policy: "always"}}
			},
			Came: func(context.Context) (map[string]time.Time, error) { return came, nil },
			Pull: func(_ context.Context, image string) error {
				pulled = append(pulled, image)
				if offline {
					offline = false
					return errors.New("no network")
				}
				came[image] = time.Now()
				return nil
			},
			Log: slog.New(slog.DiscardHandler),
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Hour)
		defer cancel()
		r.Run(ctx)
		if got := strings.Join(pulled, " "); got != "always always daily daily" {
			t.Errorf("pulled %s", got)
		}
	})
}

// TestFleet: a thousand devices that start at once come to the registry over ten minutes.
func TestFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var mu sync.Mutex // guards minutes
		minutes := map[int]int{}
		ctx, cancel := context.WithTimeout(t.Context(), first+every+time.Second)
		defer cancel()
		var all sync.WaitGroup
		for range 1000 {
			r := Refresher{
				Wanted: func() []store.Refresh { return []store.Refresh{{Image: "x", Policy: app.PullAlways}} },
				Came: func(context.Context) (map[string]time.Time, error) {
					return map[string]time.Time{"x": start}, nil
				},
				Pull: func(context.Context, string) error {
					mu.Lock()
					defer mu.Unlock()
					minutes[int((time.Since(start)-first).Minutes())]++
					return nil
				},
				Log: slog.New(slog.DiscardHandler),
			}
			all.Go(func() { r.Run(ctx) })
		}
		all.Wait()
		sum := 0
		for minute, n := range minutes {
			sum += n
			if minute < 0 || minute > 10 || n > 250 { // a hundred in each; 250 never come by chance
				t.Errorf("%d devices in minute %d", n, minute)
			}
		}
		if sum != 1000 {
			t.Errorf("%d pulls", sum)
		}
	})
}
