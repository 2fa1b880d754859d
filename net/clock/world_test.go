package clock

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"resinos/net/clockstatus"
)

// world is a device, its oscillator and its servers, in simulated time. Nothing in it looks at a real clock.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	machine *Machine
	servers map[netip.Addr]*server
	names   map[string][]netip.Addr

	elapsed time.Duration                       // true time since the start
	drift   func(elapsed time.Duration) float64 // by how much the oscillator is too fast then, as a fraction
	raw     float64                             // seconds that the oscillator has counted
	// seconds that the system clock differs from the raw clock by, since the start
	real  float64
	begin time.Time // what the system clock said at the start
	rate  float64   // what Slew set
	slew  float64   // seconds left to work off

	steps, asked int
	marked       time.Duration
	said         []string
	worst        time.Duration // error of the system clock since watch was called
}

// server answers questions.
type server struct {
	wrong     func(elapsed time.Duration) time.Duration // its clock minus the true one
	there     time.Duration                             // of the way to it
	back      time.Duration
	jitter    time.Duration // of each way
	stratum   int
	rootDelay time.Duration
	kiss      string
	gone      func(elapsed time.Duration) bool
	asked     int
	at        []time.Duration
}

var (
	build     = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	trueStart = time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
)

const gap = 1500 * time.Millisecond // from a failed question to its time-out

func newWorld(t *testing.T, wrong time.Duration) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(1, 2)), servers: map[netip.Addr]*server{}, names: map[string][]netip.Addr{},
		drift: func(time.Duration) float64 { return 37e-6 }, begin: trueStart.Add(wrong),
	}
	w.machine = New(build, w.rng.Uint32)
	return w
}

// add makes n good servers with names; change may make them worse.
func (w *world) add(n int, change func(i int, s *server)) []Source {
	var list []Source
	for range n {
		i := len(w.servers)
		s := &server{there: 12 * time.Millisecond, back: 12 * time.Millisecond, jitter: 2 * time.Millisecond,
			stratum: 2, rootDelay: 3 * time.Millisecond}
		if change != nil {
			change(i, s)
		}
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})
		name := fmt.Sprintf("s%d.test", i)
		w.servers[addr], w.names[name] = s, []netip.Addr{addr}
		list = append(list, Source{name, "default"})
	}
	return list
}

func always(d time.Duration) func(time.Duration) time.Duration {
	return func(time.Duration) time.Duration { return d }
}

func (w *world) true() time.Time { return trueStart.Add(w.elapsed) }
func (w *world) wrong() time.Duration {
	return w.reading().Real.Sub(w.true())
}

func (w *world) reading() Reading {
	raw := time.Duration(w.raw * 1e9)
	return Reading{Boot: 5*time.Second + raw, Raw: time.Unix(1e9, 0).Add(raw),
		Real: w.begin.Add(raw + time.Duration(w.real*1e9))}
}

// pass lets time go by, in pieces, as drift and slewing change.
func (w *world) pass(until time.Duration) {
	for w.elapsed < until {
		d := min(time.Minute, until-w.elapsed)
		counted := d.Seconds() * (1 + w.drift(w.elapsed))
		w.elapsed += d
		w.raw += counted
		w.real += counted * w.rate
		worked := math.Copysign(min(math.Abs(w.slew), counted*500e-6), w.slew)
		w.real, w.slew = w.real+worked, w.slew-worked
		w.worst = max(w.worst, w.wrong().Abs())
	}
}

// act does what the machine wants. Answers come at their time; a question takes the simulation through its round trip.
func (w *world) act(actions []Action) {
	for len(actions) > 0 {
		a := actions[0]
		actions = actions[1:]
		switch a.Verb {
		case Resolve:
			fault := ""
			if len(w.names[a.Name]) == 0 {
				fault = "there is no such name"
			}
			actions = append(actions, w.machine.Resolved(w.reading(), a.Name, a.Round, w.names[a.Name], fault)...)
		case Ask:
			actions = append(actions, w.ask(a)...)
		case Step:
			w.steps++
			w.real += a.By.Seconds()
			w.worst = 0
			w.said = append(w.said, fmt.Sprintf("step %v: %s", a.By.Round(time.Millisecond), a.Why))
		case Slew:
			w.rate, w.slew = a.PPM*1e-6, a.By.Seconds()
		case Mark:
			w.marked = a.Bound
		case Say:
			w.said = append(w.said, a.Why)
		}
	}
}

func (w *world) ask(a Action) []Action {
	w.asked++
	s := w.servers[a.Address]
	if s == nil || s.gone != nil && s.gone(w.elapsed) {
		if s != nil {
			s.asked++
		}
		w.pass(w.elapsed + gap)
		return w.machine.Heard(w.reading(), a.Name, a.Round, Sample{}, "", "no answer")
	}
	s.asked++
	s.at = append(s.at, w.elapsed)
	jitter := func() time.Duration { return time.Duration(w.rng.ExpFloat64() * float64(s.jitter)) }
	sent := w.reading().Raw
	w.pass(w.elapsed + s.there + jitter())
	theirs := w.true()
	if s.wrong != nil {
		theirs = theirs.Add(s.wrong(w.elapsed))
	}
	w.pass(w.elapsed + s.back + jitter())
	got := w.reading().Raw
	sample := Sample{
		At: sent.Add(got.Sub(sent) / 2), Offset: (theirs.Sub(sent) + theirs.Sub(got)) / 2, Delay: got.Sub(sent),
		RootDelay: s.rootDelay, RootDispersion: time.Millisecond, Stratum: s.stratum,
	}
	return w.machine.Heard(w.reading(), a.Name, a.Round, sample, s.kiss, "")
}

// run goes on until so much true time has passed since the start.
func (w *world) run(until time.Duration) {
	w.t.Helper()
	for rounds := 0; ; rounds++ {
		at := w.machine.Deadline()
		left := at - w.reading().Boot
		// The oscillator counts a little differently from true time: a microsecond on is a microsecond past the
		// deadline.
		next := w.elapsed + max(time.Duration(float64(left)/(1+w.drift(w.elapsed))), 0) + time.Microsecond
		if at == 0 || next > until {
			w.pass(until)
			return
		}
		w.pass(next)
		w.act(w.machine.Timer(w.reading()))
		if rounds > 100_000 {
			w.t.Fatalf("it asks without end, at %v", w.elapsed)
		}
	}
}

// status finds a server in the machine's status.
func (w *world) status(name string) clockstatus.Server {
	w.t.Helper()
	for _, s := range w.machine.Status(w.reading()).Servers {
		if s.Name == name {
			return s
		}
	}
	w.t.Fatalf("no server %s", name)
	return clockstatus.Server{}
}
