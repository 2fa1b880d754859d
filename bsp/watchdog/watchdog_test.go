package watchdog

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestDecide(t *testing.T) {
	fed := time.Unix(100, 0)
	parts := []Part{{Name: "a"}, {Name: "b"}}
	for _, tt := range []struct {
		name  string
		moved map[string]time.Time
		stuck []string
	}{
		{"both moved", map[string]time.Time{"a": fed.Add(1), "b": fed.Add(2)}, nil},
		{"one at the very moment", map[string]time.Time{"a": fed, "b": fed.Add(2)}, []string{"a"}},
		{"one never", map[string]time.Time{"a": fed.Add(1)}, []string{"b"}},
		{"none", nil, []string{"a", "b"}},
	} {
		feed, stuck := Decide(fed, tt.moved, parts)
		if feed != (tt.stuck == nil) || !slices.Equal(stuck, tt.stuck) {
			t.Errorf("%s: Decide = %v, %v", tt.name, feed, stuck)
		}
	}
}

// counter is a watchdog that keeps the times at which it was fed.
type counter struct{ fed []time.Time }

func (b *counter) Feed() error            { b.fed = append(b.fed, time.Now()); return nil }
func (b *counter) Timeout() time.Duration { return 40 * time.Second }

// TestKeeper: fed in time while all move; hungry from the moment one hangs, however much the others move; fed again
// after.
func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		w, hang := &counter{}, false
		ctx, cancel := context.WithCancel(t.Context())
		k := &Keeper{Watchdog: w, Log: slog.New(slog.NewTextHandler(&text, nil)), Parts: []Part{
			{Name: "quick", Limit: time.Second, Ask: func(context.Context) error { return nil }},
			{Name: "slow", Limit: 5 * time.Second, Ask: func(ctx context.Context) error {
				if hang {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}},
		}}
		over := make(chan error)
		go func() { over <- k.Run(ctx) }()
		time.Sleep(5 * time.Minute)
		for i, m := range w.fed[1:] {
			if gap := m.Sub(w.fed[i]); gap > w.Timeout()/2 {
				t.Errorf("fed after %v", gap)
			}
		}
		if n := len(w.fed); n < 28 || n > 31 {
			t.Errorf("fed %d times in five minutes", n)
		}
		hang = true
		time.Sleep(time.Second)
		before := len(w.fed)
		time.Sleep(5 * time.Minute)
		if len(w.fed) > before+1 {
			t.Errorf("fed %d times while a part hangs", len(w.fed)-before)
		}
		if strings.Count(text.String(), "makes no progress\" daemon=slow") != 1 {
			t.Errorf("log:\n%s", text.String())
		}
		hang = false
		time.Sleep(30 * time.Second)
		if len(w.fed) <= before+1 {
			t.Error("not fed again")
		}
		cancel()
		<-over
	})
}

// TestSlowIsNotStuck: what takes its time, at the start or always, is no reason to fear for the board; a hang is told
// when half of the watchdog's time is gone, with what is left of it.
func TestSlowIsNotStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		w, takes := &counter{}, 12*time.Second // longer than a quarter of the timeout
		ctx, cancel := context.WithCancel(t.Context())
		k := &Keeper{Watchdog: w, Log: slog.New(slog.NewTextHandler(&text, nil)), Parts: []Part{
			{Name: "quick", Limit: 13 * time.Second, Ask: func(context.Context) error { return nil }},
			{Name: "slow", Limit: 13 * time.Second, Ask: func(ctx context.Context) error {
				select {
				case <-time.After(takes):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}},
		}}
		over := make(chan error)
		go func() { over <- k.Run(ctx) }()
		time.Sleep(5 * time.Minute)
		if text.Len() > 0 || len(w.fed) < 20 {
			t.Errorf("fed %d times in five minutes; log:\n%s", len(w.fed), text.String())
		}
		takes = time.Hour
		time.Sleep(time.Until(w.fed[len(w.fed)-1].Add(w.Timeout() / 2).Add(time.Millisecond)))
		time.Sleep(12 * time.Second) // one that was under way may have fed it once more
		if !strings.Contains(text.String(), `makes no progress" daemon=slow after=20s wait=20s`) {
			t.Errorf("log:\n%s", text.String())
		}
		if takes = 0; !strings.Contains(text.String(), "fed again") {
			time.Sleep(20 * time.Second)
		}
		if !strings.Contains(text.String(), `level=WARN msg="watchdog is fed again" after=`) {
			t.Errorf("log:\n%s", text.String())
		}
		cancel()
		<-over
	})
}

func TestOpenWhatIsNoWatchdog(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none"), time.Second); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open = %v", err)
	}
	path := filepath.Join(t.TempDir(), "file")
	os.WriteFile(path, nil, 0o600)
	if _, err := Open(path, time.Second); err == nil {
		t.Error("a plain file is a watchdog")
	}
}
