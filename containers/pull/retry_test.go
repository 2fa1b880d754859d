package pull

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"resinos/containers/fetcher"
)

func TestDelay(t *testing.T) {
	for _, c := range []struct {
		cause    Cause
		failures int
		spread   float64
		want     time.Duration
	}{
		{Cause(fetcher.Offline), 1, 0, time.Second},
		{Cause(fetcher.Offline), 3, 0, 4 * time.Second},
		{Cause(fetcher.Offline), 3, 1, 5 * time.Second},
		{Cause(fetcher.Offline), 1000, 0, time.Minute},
		{Cause(fetcher.Denied), 1, 0, 10 * time.Second},
		{Cause(fetcher.Denied), 100, 0.5, 11*time.Minute + 15*time.Second},
		{Lied, 1 << 40, 0, 6 * time.Hour},
		{Again, 0, 0, 100 * time.Millisecond},
	} {
		if got := delay(c.cause, c.failures, c.spread); got != c.want {
			t.Errorf("delay(%s, %d, %v) = %v, want %v", c.cause, c.failures, c.spread, got, c.want)
		}
	}
}

// TestEveryCauseHasItsPatience: no failure is tried again without a pause.
func TestEveryCauseHasItsPatience(t *testing.T) {
	for _, c := range []Cause{Again, Lied, Unfit, NoSpace, Engine, Cause(fetcher.Offline), Cause(fetcher.Clock),
		Cause(fetcher.Untrusted), Cause(fetcher.Denied), Cause(fetcher.NoRange), Cause(fetcher.Settings),
		Cause(fetcher.Broken)} {
		if p := patiences[c]; p.first <= 0 || p.last < p.first {
			t.Errorf("%s: %+v", c, p)
		}
	}
}

func TestCauseOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Cause
	}{
		{fmt.Errorf("copy: %w", fetcher.Failure{Cause: fetcher.Denied}), Cause(fetcher.Denied)},
		{fmt.Errorf("pull: %w", fault{Unfit, io.EOF}), Unfit},
		{errors.New("write /x: no space left on device"), NoSpace},
		{errors.New("write /x: disk quota exceeded"), NoSpace},
		{fmt.Errorf("short read: %w", io.ErrUnexpectedEOF), Cause(fetcher.Offline)},
		{fmt.Errorf("dial: %w", errdefs.ErrUnavailable), Engine},
		{errors.New("unmarshal"), Cause(fetcher.Broken)},
	} {
		if got := CauseOf(c.err); got != c.want {
			t.Errorf("CauseOf(%v) = %q, want %q", c.err, got, c.want)
		}
	}
}

func TestEnough(t *testing.T) {
	for _, c := range []struct {
		need, free int64
		ok         bool
	}{{0, 0, true}, {1, keepFree + 2, true}, {1, keepFree + 1, false}, {1 << 30, 1 << 30, false}} {
		if err := enough(c.need, c.free); (err == nil) != c.ok {
			t.Errorf("enough(%d, %d) = %v", c.need, c.free, err)
		}
	}
}

func TestPlatformsOf(t *testing.T) {
	for text, want := range map[string]string{
		`{"manifests":[{"platform":{"os":"linux","architecture":"arm64","variant":"v8"}},` +
			`{"platform":{"os":"linux","architecture":"amd64"}},` +
			`{"platform":{"os":"unknown","architecture":"unknown"}},` +
			`{"platform":{"os":"linux","architecture":"amd64"}}]}`: "linux/arm64, linux/amd64",
		`{"manifests":[{}]}`: "no platform",
		`{`:                  "nothing that can be read",
	} {
		if got := platformsOf([]byte(text)); got != want {
			t.Errorf("platformsOf(%s) = %q, want %q", text, got, want)
		}
	}
}
