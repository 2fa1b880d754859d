package testenv

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestWaits: in a bubble, whose clock moves only when everybody waits.
func TestWaits(t *testing.T) {
	for ci, patience := range map[string]time.Duration{"": 30 * time.Second, "true": 5 * time.Minute} {
		t.Setenv("CI", ci)
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			within := func(d time.Duration) func() bool { return func() bool { return time.Since(start) >= d } }
			channel := func(d time.Duration) <-chan time.Time { start = time.Now(); return time.After(d) }
			for _, c := range []struct {
				name string
				wait func(t testing.TB)
				ends string
			}{
				{"soon", func(t testing.TB) { WaitFor(t, "it", within(time.Millisecond)) }, ""},
				{"late", func(t testing.TB) { WaitFor(t, "it", within(patience-time.Second)) }, ""},
				{"too late", func(t testing.TB) { WaitFor(t, "it", within(patience+time.Second)) },
					"fatal: it: not within "},
				{"comes", func(t testing.TB) { Receive(t, "it", channel(patience-time.Second)) }, ""},
				{"does not come", func(t testing.TB) { Receive(t, "it", channel(patience+time.Second)) },
					"fatal: it: not within "},
				{"never", func(t testing.TB) { Never(t, time.Second, "it", within(2*time.Second)) }, ""},
				{"once", func(t testing.TB) { Never(t, time.Second, "it", within(time.Second/2)) },
					"fatal: it, which must not happen"},
				{"at once", func(t testing.TB) { Never(t, 0, "it", within(0)) }, "fatal: it, which must not happen"},
				{"nothing comes", func(t testing.TB) { NeverReceive(t, time.Second, "it", channel(2*time.Second)) },
					""},
				{"something comes", func(t testing.TB) { NeverReceive(t, time.Second, "it", channel(time.Second/2)) },
					"fatal: it, which must not happen: "},
			} {
				start = time.Now()
				r := &recorder{TB: t}
				ended := make(chan struct{})
				go func() { // a recorder does not end who calls it, so a wait that failed goes on
					defer close(ended)
					c.wait(r)
				}()
				select {
				case <-ended:
				case <-time.After(2 * patience):
				}
				if r.ended != c.ends && (c.ends == "" || !strings.HasPrefix(r.ended, c.ends)) {
					t.Errorf("CI=%q, %s: the test ended with %q, want %q", ci, c.name, r.ended, c.ends)
				}
			}
		})
	}
}

func TestLimit(t *testing.T) {
	if must, never := Limit(true), Limit(false); must != Patience() || never <= 0 || never > time.Second {
		t.Errorf("%s for what must happen, %s for what must not", must, never)
	}
}

func TestAtMost(t *testing.T) {
	for bench, ends := range map[string]string{"": "", "1": "error: it took 2s, want at most 1s"} {
		t.Setenv("RESINOS_BENCH", bench)
		r := &recorder{TB: t}
		if AtMost(r, "it", 2*time.Second, time.Second); r.ended != ends {
			t.Errorf("with RESINOS_BENCH=%q the test ended with %q, want %q", bench, r.ended, ends)
		}
		if AtMost(t, "it", time.Second, time.Second); t.Failed() {
			t.Error("what takes as long as it may fails")
		}
	}
}

func TestTimeout(t *testing.T) {
	left, err := time.ParseDuration(strings.TrimPrefix(Timeout(t), "-test.timeout="))
	if end, limited := t.Deadline(); err != nil || limited && !time.Now().Add(left).Before(end) ||
		limited && left <= 0 {
		t.Errorf("Timeout = %s, %v; the test ends at %v", left, err, end)
	}
}
