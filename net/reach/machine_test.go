package reach

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// world simulates a Set: the links of a device, and what probes of them find at each instant. No clock runs.
type world struct {
	t       *testing.T
	set     *Set
	now     time.Duration
	links   []Uplink
	finds   func(at time.Duration, link string) State
	probes  map[string]int
	used    string   // the link with the best metric
	history []string // each link that was used, in order
	since   time.Duration
}

func newWorld(t *testing.T, links []Uplink, finds func(time.Duration, string) State) *world {
	w := &world{t: t, now: time.Minute, links: links, finds: finds, probes: map[string]int{}}
	w.set = NewSet(nil, func(time.Duration) {}, slog.New(slog.DiscardHandler))
	w.set.Retarget(w.now, Target{Host: "check.example", Interval: time.Hour})
	w.set.probe = func(context.Context, Uplink, Target) Finding { panic("the world answers") }
	t.Cleanup(w.set.Close)
	w.set.Update(w.now, links)
	w.look()
	return w
}

// run lets time pass. A probe that is answered takes no time, a silent one probeTime.
func (w *world) run(length time.Duration) {
	type due struct {
		at time.Duration
		r  result
	}
	var waiting []due
	for end := w.now + length; w.now < end; w.now += 500 * time.Millisecond {
		for _, u := range w.links {
			m := w.set.links[u.Index]
			if m == nil || !m.Ask(w.now) {
				continue
			}
			w.probes[u.Name]++
			f, took := w.finds(w.now, u.Name), time.Duration(0)
			if !f.good() && f != Portal {
				took = probeTime
			}
			waiting = append(waiting, due{w.now + took, result{u.Index, m.round, Finding{State: f}}})
		}
		rest := waiting[:0]
		for _, d := range waiting {
			if d.at > w.now {
				rest = append(rest, d)
				continue
			}
			w.set.take(w.now, d.r)
			w.look()
		}
		waiting = rest
	}
}

// look records which link is used now.
func (w *world) look() {
	best, name := 1<<30, ""
	penalised := w.set.Penalised()
	for _, u := range w.links {
		metric := u.Metric
		if penalised[u.Index] {
			metric += Penalty
		}
		if metric < best {
			best, name = metric, u.Name
		}
	}
	if name != w.used {
		w.used, w.since = name, w.now
		w.history = append(w.history, name)
	}
}

func (w *world) wantHistory(want string) {
	w.t.Helper()
	if got := strings.Join(w.history, " "); got != want {
		w.t.Errorf("links used: %q, want %q", got, want)
	}
}

var two = []Uplink{
	{Index: 2, Name: "eth0", Metric: 102, Four: true},
	{Index: 3, Name: "eth1", Metric: 103, Four: true},
}

// during returns a function that finds bad on a link between two instants after the start of the world, and Full else.
func during(link string, from, to time.Duration, bad State) func(time.Duration, string) State {
	return func(at time.Duration, name string) State {
		at -= time.Minute
		if name == link && at >= from && at < to {
			return bad
		}
		return Full
	}
}

const ever = 1000 * time.Hour

func TestAloneLink(t *testing.T) {
	w := newWorld(t, two[:1], during("", 0, 0, Full))
	if got := w.set.Deadline(); got < w.now+firstDelay {
		t.Errorf("the first probe is due after %s, want %s", got-w.now, firstDelay)
	}
	w.run(24 * time.Hour)
	if n := w.probes["eth0"]; n > 25 {
		t.Errorf("%d probes in a day, want one an hour", n)
	}
	w.wantHistory("eth0")
}

func TestAloneAndBroken(t *testing.T) {
	w := newWorld(t, two[:1], during("eth0", 0, ever, None))
	w.run(24 * time.Hour)
	if n := w.probes["eth0"]; n > 300 {
		t.Errorf("%d probes in a day, want one in five minutes", n)
	}
	if len(w.set.Penalised()) > 0 {
		t.Error("the only uplink has lost its priority")
	}
}

// TestFailover: whenever the link in use breaks, the other one is used within 30 s.
func TestFailover(t *testing.T) {
	for from := 10 * time.Second; from < 50*time.Second; from += 500 * time.Millisecond {
		for _, bad := range []State{None, Limited, Portal} {
			w := newWorld(t, two, during("eth0", from, ever, bad))
			w.run(from + 30*time.Second)
			if w.used != "eth1" {
				t.Errorf("%s after %s: %s is used 30 s later", bad, from, w.used)
			}
		}
	}
}

func TestFailback(t *testing.T) {
	w := newWorld(t, two, during("eth0", time.Minute, 10*time.Minute, Limited))
	w.run(10*time.Minute + brokenMax + 2*firstProof)
	w.wantHistory("eth0 eth1 eth0")
	n := w.probes["eth0"]
	w.run(time.Hour)
	if n = w.probes["eth0"] - n; n > 250 {
		t.Errorf("%d probes in an hour of the link in use, want four a minute", n)
	}
	w.wantHistory("eth0 eth1 eth0")
}

// TestBrokenAtBoot: a link that never reached anything gives way at once.
func TestBrokenAtBoot(t *testing.T) {
	w := newWorld(t, two, during("eth0", 0, ever, None))
	w.run(probeTime + time.Second)
	w.wantHistory("eth0 eth1")
	w.run(24 * time.Hour)
	w.wantHistory("eth0 eth1")
}

// TestLaterLink: a link that comes while another one is good is not used before it has answered.
func TestLaterLink(t *testing.T) {
	for _, bad := range []bool{false, true} {
		w := newWorld(t, two[1:], during("eth0", 0, map[bool]time.Duration{true: ever}[bad], None))
		w.run(time.Minute)
		w.links = two
		w.set.Update(w.now, two)
		w.look()
		w.run(time.Minute)
		w.wantHistory(map[bool]string{false: "eth1 eth0", true: "eth1"}[bad])
	}
}

// TestFlapping: a link that breaks again and again is used less and less often.
func TestFlapping(t *testing.T) {
	const period = 2 * time.Minute
	w := newWorld(t, two, func(at time.Duration, name string) State {
		if name == "eth0" && at%period < period/2 {
			return Limited
		}
		return Full
	})
	w.run(6 * time.Hour)
	if n := len(w.history); n > 12 {
		t.Errorf("the used link changed %d times in 6 h of breaks every %s: %v", n, period, w.history)
	}
	if w.used != "eth1" {
		t.Errorf("%s is used, want the link that is good all the time", w.used)
	}
}

// TestOneLostAnswer: a single lost answer costs nothing.
func TestOneLostAnswer(t *testing.T) {
	asked := 0
	w := newWorld(t, two, func(_ time.Duration, name string) State {
		if name == "eth0" {
			if asked++; asked%3 == 2 {
				return Limited
			}
		}
		return Full
	})
	w.run(time.Hour)
	w.wantHistory("eth0")
}

func TestAllBroken(t *testing.T) {
	w := newWorld(t, two, func(time.Duration, string) State { return Limited })
	w.run(24 * time.Hour)
	w.wantHistory("eth0")
	if n := w.probes["eth0"] + w.probes["eth1"]; n > 2*24*60+40 {
		t.Errorf("%d probes in a day of two broken links, want one a minute of each", n)
	}
	one := newWorld(t, two, func(at time.Duration, name string) State {
		if name == "eth1" && at > time.Hour {
			return Full
		}
		return Limited
	})
	one.run(2 * time.Hour)
	one.wantHistory("eth0 eth1")
}

// TestReplugged: taking the cable of a broken link out and in does not bring its priority back.
func TestReplugged(t *testing.T) {
	w := newWorld(t, two, during("eth0", time.Minute, ever, Limited))
	w.run(3 * time.Minute)
	for range 20 {
		w.set.Update(w.now, two[1:])
		w.run(10 * time.Second)
		w.set.Update(w.now, two)
		w.look()
		w.run(20 * time.Second)
	}
	w.wantHistory("eth0 eth1")
}

func TestOff(t *testing.T) {
	w := newWorld(t, two, during("eth0", 0, ever, None))
	w.run(time.Minute)
	if !w.set.Retarget(w.now, Target{Off: true, Interval: time.Hour}) {
		t.Error("the priorities did not return")
	}
	if w.set.Deadline() != 0 || len(w.set.Penalised()) > 0 || w.set.Finding(2).State != Unknown {
		t.Error("probes go on although the owner wants none")
	}
}

// TestRetarget: another question is asked at once, even while the answer to the one before is on its way.
func TestRetarget(t *testing.T) {
	w := newWorld(t, two, during("", 0, 0, Full))
	m := w.set.links[2]
	if !m.Ask(w.now) {
		t.Fatal("a link beside another one is not asked at once")
	}
	old := result{2, m.round, Finding{State: None}}
	w.set.Retarget(w.now, Target{Host: "other.example", Interval: time.Hour})
	w.set.take(w.now, old)
	if !m.Ask(w.now) || w.set.Finding(2).State != Unknown {
		t.Errorf("state %s, next question at %s, want one now", w.set.Finding(2).State, m.Deadline()-w.now)
	}
}

// TestLateAnswer: an answer from the network before counts for nothing.
func TestLateAnswer(t *testing.T) {
	w := newWorld(t, two, during("", 0, 0, Full))
	old := result{2, w.set.links[2].round, Finding{State: None}}
	moved := two[0]
	moved.Hardware = "52:54:00:00:00:01"
	w.set.Update(w.now, []Uplink{moved, two[1]})
	w.set.take(w.now, old)
	if got := w.set.Finding(2); got.State != Unknown {
		t.Errorf("state %s, want that of a link that was not asked", got.State)
	}
}
