package notify

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatched(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		usec, pid string
		every     time.Duration // 0: nobody watches
	}{
		{"60000000", "", 20 * time.Second}, {"60000000", "7", 20 * time.Second}, {"60000000", "8", 0},
		{"60000000", "x", 0},
		{"", "", 0}, {"0", "", 0}, {"-3", "", 0}, {"3s", "", 0}, {"9223372036854775807", "", 0},
	} {
		env := map[string]string{"WATCHDOG_USEC": test.usec, "WATCHDOG_PID": test.pid}
		p := watched(func(name string) string { return env[name] }, 7, now)
		if p == nil && test.every == 0 {
			continue
		}
		if p == nil || p.every != test.every || p.next != now.Add(test.every) {
			t.Errorf("%+v gives %+v", test, p)
		}
	}
}

func TestPulse(t *testing.T) {
	path, got := listening(t)
	t.Setenv(Variable, path)
	p := &Pulse{every: time.Hour, next: time.Now()}
	if p.Left() != 0 {
		t.Errorf("%v left though a sign is due", p.Left())
	}
	p.Beat()
	if r := <-got; !r.message.Watchdog {
		t.Errorf("received %+v", r)
	}
	p.Beat() // none is due
	if left := p.Left(); left < 59*time.Minute || left > time.Hour {
		t.Errorf("%v left after a sign of an hour", left)
	}
	if err := Send("STOPPING=1"); err != nil {
		t.Fatal(err)
	}
	if r := <-got; r.message.Watchdog {
		t.Error("a sign that was not due is given")
	}
}

// TestPulseWithoutListener: a sign that could not be given is given a little later, and nobody waits for it.
func TestPulseWithoutListener(t *testing.T) {
	t.Setenv(Variable, t.TempDir()+"/gone")
	synctest.Test(t, func(t *testing.T) {
		p := &Pulse{every: time.Hour, next: time.Now()}
		p.Beat()
		if p.Left() != beatRetry {
			t.Errorf("%v left after a sign that was not given, want %v", p.Left(), beatRetry)
		}
	})
}

func TestNobodyWatches(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "")
	p := Watched()
	p.Beat()
	if p != nil || p.Left() != math.MaxInt64 || !p.Until().IsZero() {
		t.Errorf("%+v wants a sign in %v", p, p.Left())
	}
}

// TestPart: a part of a process reports to another main loop, and sends nothing itself.
func TestPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		beats := 0
		p := Part(time.Minute, func() { beats++ })
		p.Beat()
		p.Beat()
		if beats != 1 || p.Left() != time.Minute {
			t.Errorf("%d beats, %v left", beats, p.Left())
		}
		time.Sleep(time.Minute)
		if p.Beat(); beats != 2 {
			t.Errorf("%d beats after a minute", beats)
		}
	})
}
