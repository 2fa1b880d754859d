package clock

import (
	"encoding/json"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"resinos/net/clockstatus"
)

// settled runs a world with the servers and fails if the clock is not right then.
func (w *world) settled(list []Source, until, within time.Duration) {
	w.t.Helper()
	w.act(w.machine.Servers(w.reading(), list))
	w.run(until)
	s := w.machine.Status(w.reading())
	if !s.Synchronised || w.wrong().Abs() > within || w.marked == 0 {
		w.t.Fatalf("after %v: synchronised = %v (%s), wrong by %v; said %q", until, s.Synchronised, s.Trouble,
			w.wrong(), w.said)
	}
}

func TestFirstSync(t *testing.T) {
	for _, wrong := range []time.Duration{0, 400 * time.Millisecond, -400 * time.Millisecond, -328 * 24 * time.Hour,
		20 * 365 * 24 * time.Hour} {
		w := newWorld(t, wrong)
		w.act(w.machine.Servers(w.reading(), w.add(4, nil)))
		first := w.wrong().Abs()
		if want := wrong.Abs() > stepFirst; (w.steps == 1) != want || want && first > 10*time.Millisecond {
			t.Errorf("wrong by %v: %d steps in the first round, then wrong by %v", wrong, w.steps, first)
		}
		w.run(30 * time.Minute)
		if w.wrong().Abs() > 3*time.Millisecond || w.steps > 1 {
			t.Errorf("wrong by %v: after half an hour by %v, %d steps", wrong, w.wrong(), w.steps)
		}
		if s := w.machine.Status(w.reading()); wrong == 0 && math.Abs(s.PPM+37) > 3 {
			t.Errorf("rate found is %.1f ppm, want -37", s.PPM)
		}
	}
}

// The longer it runs, the less it asks, and what the oscillator does meanwhile stays in bounds: 10 ppm up and down
// each day.
func TestLongRun(t *testing.T) {
	w := newWorld(t, -time.Hour)
	day := 24 * time.Hour
	w.drift = func(e time.Duration) float64 { return 37e-6 + 5e-6*math.Sin(2*math.Pi*e.Hours()/24) }
	list := w.add(4, nil)
	w.settled(list, day, 40*time.Millisecond)
	w.worst = 0
	asked := w.asked
	w.run(10 * day)
	s := w.machine.Status(w.reading())
	t.Logf("10 days: worst error %v, poll %v, %d questions in 9 days, rate %.2f ppm", w.worst, seconds(s.Poll),
		w.asked-asked, s.PPM)
	if w.worst > 150*time.Millisecond || w.steps != 1 {
		t.Errorf("worst error = %v, steps = %d", w.worst, w.steps)
	}
	if seconds(s.Poll) != lastPoll {
		t.Errorf("poll = %v, want %v", seconds(s.Poll), lastPoll)
	}
	if perDay := (w.asked - asked) / 9; perDay > 30 {
		t.Errorf("%d questions a day", perDay)
	}
}

// Corrections do not swing: once the error has become small it does not change its sign with every round.
func TestNoOscillation(t *testing.T) {
	w := newWorld(t, 300*time.Millisecond)
	list := w.add(4, func(_ int, s *server) { s.jitter = 0 })
	w.act(w.machine.Servers(w.reading(), list))
	signs, last := 0, 0.0
	for e := time.Minute; e < 2*time.Hour; e += time.Minute {
		w.run(e)
		if now := w.wrong().Seconds(); math.Abs(now) > 500e-6 {
			if last*now < 0 {
				signs++
			}
			last = now
		}
	}
	if signs > 1 || w.steps != 0 || w.wrong().Abs() > time.Millisecond {
		t.Errorf("%d swings, %d steps, wrong by %v in the end", signs, w.steps, w.wrong())
	}
}

func TestBadNetwork(t *testing.T) {
	for name, change := range map[string]func(i int, s *server){
		"jitter of a modem": func(_ int, s *server) {
			s.there, s.back, s.jitter = 150*time.Millisecond, 150*time.Millisecond, 200*time.Millisecond
		},
		"crooked path": func(_ int, s *server) { s.there, s.back = 20*time.Millisecond, 120*time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, -time.Hour)
			// Nobody can see that a path is crooked: half of the difference is the best that can be had.
			w.settled(w.add(4, change), 6*time.Hour, 120*time.Millisecond)
			w.worst = 0
			w.run(48 * time.Hour)
			if w.worst > 250*time.Millisecond || w.steps != 1 {
				t.Errorf("worst error %v, %d steps", w.worst, w.steps)
			}
		})
	}
}

func TestLiars(t *testing.T) {
	for _, tt := range []struct {
		name        string
		good, liars int
		lie         time.Duration
		synced      bool
	}{
		{"1 of 3", 2, 1, time.Hour, true},
		{"1 of 4 by little", 3, 1, 300 * time.Millisecond, true},
		{"2 of 5, together", 3, 2, -40 * 24 * time.Hour, true},
		{"1 of 2", 1, 1, time.Hour, false},
		{"2 of 4, together", 2, 2, time.Hour, false},
		{"before the build", 1, 1, -20 * 365 * 24 * time.Hour, true}, // it has no vote
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, -10*time.Second)
			list := w.add(tt.liars, func(_ int, s *server) { s.wrong = always(tt.lie) })
			list = append(list, w.add(tt.good, nil)...)
			w.act(w.machine.Servers(w.reading(), list))
			w.run(time.Hour)
			s := w.machine.Status(w.reading())
			if s.Synchronised != tt.synced {
				t.Fatalf("synchronised = %v: %s", s.Synchronised, s.Trouble)
			}
			if !tt.synced {
				if w.steps != 0 || s.Trouble == "" || s.Servers[0].State != clockstatus.Undecided {
					t.Errorf("steps = %d, trouble %q, servers %+v", w.steps, s.Trouble, s.Servers)
				}
				return
			}
			if w.wrong().Abs() > 10*time.Millisecond {
				t.Errorf("wrong by %v", w.wrong())
			}
			for i, one := range s.Servers {
				liar := i < tt.liars
				if (one.State == clockstatus.Used) == liar || liar && one.Why == "" {
					t.Errorf("%s is %s, because %q", one.Name, one.State, one.Why)
				}
			}
		})
	}
}

func TestAllDisagree(t *testing.T) {
	w := newWorld(t, 0)
	list := w.add(5, func(i int, s *server) { s.wrong = always(time.Duration(i) * 10 * time.Second) })
	w.act(w.machine.Servers(w.reading(), list))
	w.run(time.Hour)
	if s := w.machine.Status(w.reading()); s.Synchronised || w.steps != 0 ||
		!strings.Contains(s.Trouble, "no majority") {
		t.Errorf("synchronised = %v, steps = %d, trouble %q", s.Synchronised, w.steps, s.Trouble)
	}
	if w.asked > 5*(burst+6+15) {
		t.Errorf("%d questions in an hour", w.asked)
	}
}

// One server alone is believed at once; one that answers while others do not has to wait for them.
func TestLonely(t *testing.T) {
	w := newWorld(t, time.Hour)
	w.act(w.machine.Servers(w.reading(), append(w.add(1, nil), Source{"nowhere.test", "default"})))
	if w.steps != 1 {
		t.Errorf("%d steps after the only server has answered", w.steps)
	}
	w = newWorld(t, time.Hour)
	list := w.add(1, nil)
	list = append(list, w.add(2, func(_ int,
		s *server) {
		s.gone = func(e time.Duration) bool { return e < 3*time.Second }
	})...)
	w.act(w.machine.Servers(w.reading(), list))
	if w.steps != 0 {
		t.Error("one of three was believed in the first round")
	}
	w.run(20 * time.Second)
	if w.steps != 1 || w.wrong().Abs() > 10*time.Millisecond {
		t.Errorf("%d steps, wrong by %v", w.steps, w.wrong())
	}
}

// The first answers come while the device is busy booting: one step, with the better measurement.
func TestBusyStart(t *testing.T) {
	w := newWorld(t, time.Hour)
	slow := func(_ int, s *server) { s.there, s.back, s.jitter = 50*time.Millisecond, 900*time.Millisecond, 0 }
	list := w.add(2, slow)
	w.act(w.machine.Servers(w.reading(), list))
	if w.steps != 0 {
		t.Error("an answer that took a second was believed at once")
	}
	for _, s := range w.servers {
		s.back = 50 * time.Millisecond
	}
	w.run(w.elapsed + 4*time.Second)
	if w.steps != 1 || w.wrong().Abs() > 40*time.Millisecond {
		t.Errorf("%d steps, wrong by %v", w.steps, w.wrong())
	}
	// If it stays slow, the third time it has to do.
	w = newWorld(t, time.Hour)
	w.act(w.machine.Servers(w.reading(), w.add(2, slow)))
	w.run(w.elapsed + 15*time.Second)
	if w.steps != 1 || w.wrong().Abs() > 500*time.Millisecond {
		t.Errorf("slow for ever: %d steps, wrong by %v", w.steps, w.wrong())
	}
}

func TestServersVanish(t *testing.T) {
	w := newWorld(t, -time.Minute)
	gone := func(e time.Duration) bool { return e > 12*time.Hour && e < 60*time.Hour }
	list := w.add(3, func(_ int, s *server) { s.gone = gone })
	w.settled(list, 11*time.Hour, 10*time.Millisecond)
	w.run(36 * time.Hour)
	if s := w.machine.Status(w.reading()); !s.Synchronised || s.Servers[0].State != clockstatus.Silent ||
		s.Servers[0].Why == "" {
		t.Errorf("a day without servers: %+v", s)
	}
	w.run(50 * time.Hour)
	if s := w.machine.Status(w.reading()); s.Synchronised || w.marked != 0 {
		t.Errorf("after 38 hours without servers it says synchronised: %+v", s)
	}
	if w.wrong().Abs() > time.Second {
		t.Errorf("the rate that was learnt did not carry over: wrong by %v", w.wrong())
	}
	w.run(70 * time.Hour)
	if s := w.machine.Status(w.reading()); !s.Synchronised || w.wrong().Abs() > 20*time.Millisecond {
		t.Errorf("servers are back: synchronised = %v, wrong by %v", s.Synchronised, w.wrong())
	}
}

// One server dies and its name leads elsewhere.
func TestServerReplaced(t *testing.T) {
	w := newWorld(t, -time.Minute)
	list := w.add(2, func(i int, s *server) { s.gone = func(e time.Duration) bool { return i == 0 && e > time.Hour } })
	w.add(1, nil)
	fresh := netip.AddrFrom4([4]byte{192, 0, 2, 3})
	w.names["s0.test"] = append(w.names["s0.test"], fresh)
	w.settled(list, 50*time.Minute, 10*time.Millisecond)
	w.run(40 * time.Hour)
	if s := w.status("s0.test"); s.Address != fresh.String() || s.State != clockstatus.Used {
		t.Errorf("s0 = %+v", s)
	}
}

// Two names of one server are one vote.
func TestOneVote(t *testing.T) {
	w := newWorld(t, 0)
	list := w.add(1, func(_ int, s *server) { s.wrong = always(time.Hour) })
	for _, name := range []string{"a.test", "b.test"} {
		w.names[name] = w.names["s0.test"]
		list = append(list, Source{name, "config"})
	}
	list = append(list, w.add(1, nil)...)
	w.act(w.machine.Servers(w.reading(), list))
	w.run(time.Minute)
	if w.steps != 0 {
		t.Error("one server outvoted another by its names")
	}
	if s := w.status("b.test"); s.State != clockstatus.Duplicate || s.Why == "" {
		t.Errorf("b = %+v", s)
	}
}

func TestKiss(t *testing.T) {
	for _, tt := range []struct {
		kiss  string
		state clockstatus.State
		most  int // questions in two days
	}{
		{"RATE", clockstatus.Refusing, 12},
		{"DENY", clockstatus.Refusing, 12},
		{"RSTR", clockstatus.Refusing, 12},
		{"INIT", clockstatus.Unfit, 100},
		{"\x1b[2J", clockstatus.Unfit, 100},
	} {
		w := newWorld(t, -time.Minute)
		list := w.add(1, func(_ int, s *server) { s.kiss = tt.kiss })
		list = append(list, w.add(2, nil)...)
		w.settled(list, 48*time.Hour, 20*time.Millisecond)
		s := w.status("s0.test")
		if s.State != tt.state || s.Why == "" || strings.Contains(s.Why, "\x1b") {
			t.Errorf("%q: %+v", tt.kiss, s)
		}
		if asked := w.servers[netip.AddrFrom4([4]byte{192, 0, 2, 1})].asked; asked > tt.most || asked == 0 {
			t.Errorf("%q: asked %d times in two days", tt.kiss, asked)
		}
	}
	// Alone with a server that refuses: it is left in peace, and asked again some day.
	w := newWorld(t, 0)
	w.act(w.machine.Servers(w.reading(), w.add(1, func(_ int, s *server) { s.kiss = "DENY" })))
	w.run(48 * time.Hour)
	if w.asked > 12 || w.asked < 2 {
		t.Errorf("asked %d times in two days", w.asked)
	}
}

// Somebody sets the clock: the servers are asked at once, and it is set back.
func TestJumped(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour, 3 * time.Second, 700 * time.Millisecond} {
		w := newWorld(t, 0)
		w.settled(w.add(3, nil), 5*time.Hour, 10*time.Millisecond)
		w.real += by.Seconds()
		round := w.machine.Jumped(w.reading(), by)
		if s := w.machine.Status(w.reading()); s.Synchronised || s.Origin != clockstatus.FromHand ||
			s.Since != w.reading().Boot.Seconds() || s.Trouble == "" {
			t.Errorf("set by %v and not measured again: %+v", by, s)
		}
		w.act(round[:2]) // what is said of it, before anybody is asked
		if w.marked != 0 {
			t.Errorf("set by %v: the kernel still calls the clock right", by)
		}
		w.act(round[2:])
		w.run(w.elapsed + 10*time.Second)
		if w.steps != 1 || w.wrong().Abs() > 10*time.Millisecond {
			t.Errorf("set by %v: %d steps, wrong by %v", by, w.steps, w.wrong())
		}
		if s := w.machine.Status(w.reading()); s.LastStep == nil || !strings.Contains(s.LastStep.Why, "somebody") ||
			!s.Synchronised {
			t.Errorf("set by %v: %+v", by, s.LastStep)
		}
	}
	// Without servers it stays as it was set, but never before the build.
	w := newWorld(t, 0)
	w.settled(w.add(3, func(_ int, s *server) { s.gone = func(e time.Duration) bool { return e > time.Hour } }),
		50*time.Minute, 10*time.Millisecond)
	w.run(2 * time.Hour)
	w.real += 3600
	w.act(w.machine.Jumped(w.reading(), time.Hour))
	w.run(3 * time.Hour)
	if w.steps != 0 {
		t.Errorf("said %q", w.said)
	}
	back := time.Unix(0, 0).Sub(w.reading().Real)
	w.real += back.Seconds()
	w.act(w.machine.Jumped(w.reading(), back))
	if w.wrong().Abs() > 100*time.Millisecond || w.steps != 1 {
		t.Errorf("set to 1970: %d steps, wrong by %v", w.steps, w.wrong())
	}
}

// The clock is not known to be right and nobody answers: whenever somebody does again, it is right within a minute.
func TestServersReturn(t *testing.T) {
	for name, far := range map[string]time.Duration{"somebody set the clock": 10 * 365 * 24 * time.Hour,
		"somebody set it a little": -time.Second, "nothing was known": 0} {
		for minute := range 40 {
			back := 5*time.Hour + time.Duration(minute)*time.Minute + time.Duration(minute)*1370*time.Millisecond
			w := newWorld(t, -time.Hour)
			list := w.add(3, func(_ int, s *server) {
				s.gone = func(e time.Duration) bool { return (far == 0 || e > time.Hour) && e < back }
			})
			for _, s := range list { // names are found again by then as well, or not
				if minute%2 == 1 && far == 0 {
					delete(w.names, s.Name)
				}
			}
			w.act(w.machine.Servers(w.reading(), list))
			w.run(50 * time.Minute)
			if far != 0 {
				w.run(3 * time.Hour)
				w.real += far.Seconds()
				w.act(w.machine.Jumped(w.reading(), far))
			}
			w.run(back - 10*time.Second) // a round that goes on then sees them return
			if s := w.machine.Status(w.reading()); s.Synchronised {
				t.Fatalf("%s: synchronised while nobody answers: %+v", name, s)
			}
			for i, s := range list {
				w.names[s.Name] = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})}
			}
			w.run(back + time.Minute)
			if s := w.machine.Status(w.reading()); !s.Synchronised || w.wrong().Abs() > 50*time.Millisecond {
				t.Errorf("%s, servers return after %v: a minute later wrong by %v, %s", name, back, w.wrong(),
					s.Trouble)
			}
		}
	}
	// That costs servers that do not answer little.
	w := newWorld(t, 0)
	w.act(w.machine.Servers(w.reading(),
		w.add(1, func(_ int, s *server) { s.gone = func(time.Duration) bool { return true } })))
	w.run(24 * time.Hour)
	if w.asked > 24*3600/30 {
		t.Errorf("asked %d times in a day", w.asked)
	}
}

// After a restart of the daemon it is known that somebody had set the clock.
func TestAdoptJumped(t *testing.T) {
	w := newWorld(t, 0)
	w.settled(w.add(3, nil), time.Hour, 10*time.Millisecond)
	w.machine.Jumped(w.reading(), time.Hour)
	kept := w.machine.Status(w.reading())
	w.machine = New(build, w.rng.Uint32)
	w.machine.Adopt(kept, 0)
	if s := w.machine.Status(w.reading()); s.Synchronised || s.Origin != clockstatus.FromHand {
		t.Errorf("status = %+v", s)
	}
}

// The driver of a hardware clock without a battery comes late and sets 1970, before any server has been heard.
func TestJumpedEarly(t *testing.T) {
	w := newWorld(t, -time.Hour)
	w.act(w.machine.Servers(w.reading(), []Source{{"nowhere.test", "default"}}))
	w.run(time.Minute)
	back := time.Unix(0, 0).Sub(w.reading().Real)
	w.real += back.Seconds()
	w.act(w.machine.Jumped(w.reading(), back))
	if got := w.wrong().Round(time.Second); got != -time.Hour {
		t.Errorf("wrong by %v, want -1h as before", got)
	}
}

// All servers move: not believed for a quarter of an hour, then followed, by a step only if it is more than a second.
func TestServersMove(t *testing.T) {
	for _, move := range []time.Duration{10 * time.Second, -10 * time.Second, 300 * time.Millisecond} {
		w := newWorld(t, 0)
		list := w.add(4, func(_ int, s *server) {
			s.wrong = func(e time.Duration) time.Duration {
				if e > 5*time.Hour {
					return move
				}
				return 0
			}
		})
		w.settled(list, 5*time.Hour-time.Minute, 10*time.Millisecond)
		for w.machine.doubts == 0 && w.elapsed < 12*time.Hour {
			w.run(w.elapsed + time.Minute)
		}
		w.run(w.elapsed + doubtSpan - 4*time.Minute)
		if w.wrong().Abs() > 50*time.Millisecond {
			t.Errorf("moved by %v: believed too soon, wrong by %v", move, w.wrong())
		}
		w.run(w.elapsed + 30*time.Minute)
		if off := (w.wrong() - move).Abs(); off > 20*time.Millisecond {
			t.Errorf("moved by %v: %v behind after half an hour more; said %q", move, off, w.said)
		}
		if want := min(1, int(move.Abs()/stepLater)); w.steps != want {
			t.Errorf("moved by %v: %d steps, want %d; said %q", move, w.steps, want, w.said)
		}
	}
}

// A slow resolver does not hold up a round, and what it says is not lost.
func TestLateAnswers(t *testing.T) {
	w := newWorld(t, time.Hour)
	list := w.add(1, nil)
	actions := w.machine.Servers(w.reading(), list)
	if len(actions) != 1 || actions[0].Verb != Resolve {
		t.Fatalf("first actions = %+v", actions)
	}
	w.pass(patience + time.Second)
	if more := w.machine.Timer(w.reading()); len(more) != 0 {
		t.Fatalf("after the patience: %+v", more)
	}
	// The name comes late: it is used in the next round.
	if more := w.machine.Resolved(w.reading(), "s0.test", 1, w.names["s0.test"], ""); len(more) != 0 {
		t.Errorf("a late address was asked at once: %+v", more)
	}
	if more := w.machine.Heard(w.reading(), "s0.test", 1, Sample{Stratum: 1}, "", ""); len(more) != 0 {
		t.Errorf("a late answer was taken: %+v", more)
	}
	w.run(time.Minute)
	if w.steps != 1 {
		t.Errorf("%d steps", w.steps)
	}
}

func TestServersChange(t *testing.T) {
	w := newWorld(t, 0)
	w.act(w.machine.Servers(w.reading(), nil))
	if w.machine.Deadline() != 0 || w.machine.Busy() {
		t.Error("without a server there is a deadline")
	}
	w.act(w.machine.Online(w.reading()))
	list := w.add(3, nil)
	w.settled(list, time.Minute, 10*time.Millisecond)
	asked := w.asked
	w.act(w.machine.Servers(w.reading(), list))
	w.act(w.machine.Online(w.reading()))
	if w.asked != asked {
		t.Error("the same servers again were asked at once")
	}
	w.act(w.machine.Servers(w.reading(), append(slices.Clone(list), w.add(1, nil)...)))
	if w.asked == asked {
		t.Error("a new server was not asked at once")
	}
	w.act(w.machine.Servers(w.reading(), list[:1]))
	if s := w.machine.Status(w.reading()); len(s.Servers) != 1 || s.Servers[0].State != clockstatus.Used {
		t.Errorf("servers = %+v", s.Servers)
	}
	var many []Source
	for i := range 100 {
		many = append(many, Source{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String(), "config"})
	}
	w.act(w.machine.Servers(w.reading(), many))
	if s := w.machine.Status(w.reading()); len(s.Servers) != maxSources {
		t.Errorf("%d servers are asked", len(s.Servers))
	}
}

// A daemon that is started again does not step like the first one: two servers that lie meanwhile are not followed at
// once.
func TestAdopt(t *testing.T) {
	w := newWorld(t, -time.Hour)
	list := w.add(2, func(_ int, s *server) {
		s.wrong = func(e time.Duration) time.Duration {
			if e > time.Hour {
				return 5 * time.Second
			}
			return 0
		}
	})
	w.settled(list, time.Hour, 10*time.Millisecond)
	before := w.machine.Status(w.reading())
	text, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "time.json")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	kept, err := clockstatus.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	w.machine = New(build, w.rng.Uint32)
	w.machine.Adopt(kept, w.rate*1e6)
	if s := w.machine.Status(w.reading()); !s.Synchronised || s.Since != before.Since || s.Steps != 1 ||
		s.LastStep == nil || s.Origin != clockstatus.FromNTP {
		t.Errorf("status is not kept: %+v", s)
	}
	w.act(w.machine.Servers(w.reading(), list))
	w.run(w.elapsed + 10*time.Minute)
	if w.steps != 1 {
		t.Errorf("said %q", w.said)
	}
	w.run(w.elapsed + 30*time.Minute)
	if w.steps != 2 {
		t.Errorf("half an hour is not long enough; said %q", w.said)
	}
}

// FuzzMachine feeds the machine with whatever servers can say: it must neither panic, nor ask without pause, nor step
// to a time that cannot be.
func FuzzMachine(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 250, 251, 252, 253, 254, 255})
	f.Fuzz(func(t *testing.T, script []byte) {
		w := newWorld(t, 0)
		next := func() byte {
			if len(script) == 0 {
				return 0
			}
			b := script[0]
			script = script[1:]
			return b
		}
		list := w.add(int(next()%6), func(_ int, s *server) {
			s.stratum = int(next() % 18)
			n := next()
			s.wrong = func(time.Duration) time.Duration { return time.Duration(int8(n)) * time.Duration(1) << (n % 57) }
			s.kiss = []string{"", "", "", "RATE", "DENY", "\x00"}[next()%6]
			s.there = time.Duration(next()) * 5 * time.Millisecond
		})
		w.act(w.machine.Servers(w.reading(), list))
		for len(script) > 0 {
			switch next() % 4 {
			case 0:
				by := time.Duration(int8(next())) * time.Duration(1) << (next() % 57)
				// The kernel takes no time before 1970 or so far on.
				by = max(by, time.Unix(0, 0).Sub(w.reading().Real))
				by = min(by, time.Unix(6e9, 0).Sub(w.reading().Real))
				w.real += by.Seconds()
				w.act(w.machine.Jumped(w.reading(), by))
			case 1:
				w.act(w.machine.Online(w.reading()))
			case 2:
				w.act(w.machine.Servers(w.reading(), list[:int(next())%(len(list)+1)]))
			case 3:
				w.run(w.elapsed + time.Duration(next())*time.Minute)
			}
		}
		if w.steps > 0 && w.reading().Real.Before(build.Add(-time.Hour*24*30)) {
			t.Fatalf("the clock says %v: %q", w.reading().Real, w.said)
		}
	})
}
