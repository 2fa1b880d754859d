package transaction

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"resinos/services/graph"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
)

// body is what the model knows of one service's process, independently of the world.
type body struct {
	forks   int  // fork actions not yet answered
	alive   bool // the main process runs
	deaf    bool // ignores SIGTERM
	termed  bool
	killed  bool
	litter  bool // something of it is left in its group
	sweeps  int  // sweep actions not yet answered
	started []time.Time
}

var actNames = map[lifecycle.Act]string{lifecycle.Fork: "fork", lifecycle.Arm: "arm", lifecycle.Term: "term",
	lifecycle.Kill: "kill", lifecycle.Sweep: "sweep", lifecycle.Remove: "remove", lifecycle.Shut: "shut"}

// model plays the outside of a world and judges what it does.
type model struct {
	t      *rapid.T
	w      *World
	now    time.Time
	bodies []body
	pids   int
	trace  []string
}

func newModel(t *rapid.T, nodes []graph.Node, specs map[string]spec.Spec) *model {
	for i := range nodes {
		nodes[i].Conflicts = specs[nodes[i].Name].Conflicts
	}
	g := graph.Build(nodes)
	list := make([]spec.Spec, len(g.Names))
	for i, name := range g.Names {
		list[i] = specs[name]
	}
	m := &model{t: t, now: time.Unix(1000, 0), bodies: make([]body, len(list)), pids: 100}
	m.w = New(g, list, m.now, Setting{Epoch: m.now, Seed: 7})
	return m
}

// feed gives one input to the world and takes its actions.
func (m *model) feed(i int, in lifecycle.Input) { m.took(m.w.Feed(m.now, i, in)) }

func (m *model) took(actions []Action) {
	if len(actions) > 8*len(m.bodies)+8 {
		m.fatalf("one transaction made %d actions", len(actions))
	}
	m.judge(actions)
	for _, a := range actions {
		b := &m.bodies[a.Service]
		if n := len(m.trace); a.Act == lifecycle.Kill && n > 1 && m.trace[n-1] == m.trace[n-2] {
			continue
		}
		m.trace = append(m.trace, fmt.Sprintf("  %v %s", actNames[a.Act], m.w.Graph.Names[a.Service]))
		switch a.Act {
		case lifecycle.Fork:
			if b.forks > 0 || b.alive || b.litter && m.w.Specs[a.Service].KillMode == spec.Group {
				m.fatalf("two lives of %s", m.w.Graph.Names[a.Service])
			}
			b.forks++
			b.termed, b.killed = false, false
			b.started = append(b.started, m.now)
		case lifecycle.Term:
			b.termed = true
		case lifecycle.Kill:
			b.killed = true
		case lifecycle.Sweep:
			b.sweeps++
		}
	}
}

// judge holds the invariants of every committed transaction.
func (m *model) judge(actions []Action) {
	w := m.w
	for i := range w.Services {
		s, name := &w.Services[i], w.Graph.Names[i]
		if w.stand(i) != w.stands[i] {
			m.fatalf("%s stands %d, the world says %d", name, w.stand(i), w.stands[i])
		}
		for _, j := range w.Graph.Conflicts[i] {
			if s.Phase.Alive() && w.Services[j].Phase.Alive() && s.Phase != lifecycle.Clearing &&
				w.Services[j].Phase != lifecycle.Clearing {
				m.fatalf("%s runs beside %s, which conflicts with it", name, w.Graph.Names[j])
			}
			if s.Wanted && w.Services[j].Wanted {
				m.fatalf("%s and %s, which conflict, are both asked for", name, w.Graph.Names[j])
			}
		}
		if s.Phase == lifecycle.Starting || s.Phase == lifecycle.Up || s.Phase == lifecycle.Armed {
			if w.anyNeed(i, gone) {
				m.fatalf("%s is %s while a need is gone", name, s.Phase)
			}
		}
		if e := w.gate(i); e != lifecycle.None {
			m.fatalf("%s still has to decide: %s", name, e)
		}
		if w.Ending && s.Wanted {
			m.fatalf("%s is asked for during the shutdown", name)
		}
	}
	for _, a := range actions {
		name := w.Graph.Names[a.Service]
		switch a.Act {
		case lifecycle.Fork:
			for _, j := range w.Graph.Needs[a.Service] {
				if w.stands[j] != serving {
					m.fatalf("%s starts while its need %s is %s", name, w.Graph.Names[j], w.Services[j].Phase)
				}
			}
			for _, j := range w.Graph.Soft[a.Service] {
				if w.stands[j] == pending {
					m.fatalf("%s starts before %s", name, w.Graph.Names[j])
				}
			}
		case lifecycle.Term:
			if w.stands[a.Service] != gone {
				continue // a restart: dependants stay
			}
			for _, j := range w.Graph.NeededBy[a.Service] {
				if w.Services[j].Phase.Alive() {
					m.fatalf("%s stops before its dependant %s", name, w.Graph.Names[j])
				}
			}
			for _, j := range w.Graph.SoftBy[a.Service] {
				if w.Services[j].Phase.Alive() && w.stands[j] == gone {
					m.fatalf("%s stops before %s, which comes after it", name, w.Graph.Names[j])
				}
			}
		}
	}
}

func (m *model) fatalf(format string, args ...any) {
	m.t.Helper()
	tail := m.trace[max(0, len(m.trace)-40):]
	for _, line := range tail {
		m.t.Log(line)
	}
	m.t.Fatalf(format, args...)
}

func (m *model) say(format string, args ...any) {
	m.trace = append(m.trace, m.now.Format("05.000 ")+fmt.Sprintf(format, args...))
}

// began and died answer for the process of i.
func (m *model) began(i int, ok, deaf bool) {
	b := &m.bodies[i]
	b.forks--
	if !ok {
		m.say("cannot start %s", m.w.Graph.Names[i])
		m.feed(i, lifecycle.Input{Event: lifecycle.Exit, Err: errors.New("no such file")})
		return
	}
	m.say("runs %s", m.w.Graph.Names[i])
	b.alive, b.deaf, b.litter = true, deaf, true
	m.pids++
	m.feed(i, lifecycle.Input{Began: true, PID: m.pids})
}

func (m *model) died(i, code int) {
	m.say("exit %d of %s", code, m.w.Graph.Names[i])
	m.bodies[i].alive = false
	m.feed(i, lifecycle.Input{Event: lifecycle.Exit,
		Status: proc.Status{Pid: m.w.Services[i].PID, Wait: exitCode(code)}})
}

func (m *model) swept(i int) {
	m.say("nothing left of %s", m.w.Graph.Names[i])
	m.bodies[i].sweeps--
	m.bodies[i].litter = false
	m.feed(i, lifecycle.Input{Empty: true})
}

// pass lets d go by, ringing every deadline on its way at its time.
func (m *model) pass(d time.Duration) {
	end := m.now.Add(d)
	for rings := 0; ; rings++ {
		first := m.first()
		if first < 0 || m.w.Services[first].Deadline.After(end) {
			break
		}
		if rings > 100000 {
			m.fatalf("deadlines never stop ringing")
		}
		if m.w.Services[first].Deadline.After(m.now) {
			m.now = m.w.Services[first].Deadline
		}
		if m.w.Services[first].Phase != lifecycle.Killing || rings < 3 {
			m.say("time is over for %s", m.w.Graph.Names[first])
		}
		before := m.w.Services[first]
		if m.w.Services[first].Phase == lifecycle.Clearing { // the world goes on without the answer
			m.bodies[first].litter, m.bodies[first].sweeps = false, 0
		}
		m.feed(first, lifecycle.Input{Event: lifecycle.Timer})
		if m.w.Services[first] == before {
			m.fatalf("a deadline of %s changes nothing", m.w.Graph.Names[first])
		}
	}
	m.now = end
}

// first names the service with the earliest deadline, -1 if there is none.
func (m *model) first() int {
	first := -1
	for i := range m.w.Services {
		at := m.w.Services[i].Deadline
		if !at.IsZero() && (first < 0 || at.Before(m.w.Services[first].Deadline)) {
			first = i
		}
	}
	return first
}

func exitCode(code int) syscall.WaitStatus { return syscall.WaitStatus(code << 8) }

// TestModel drives random graphs through random events.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, specs := world0(t)
		m := newModel(t, nodes, specs)
		m.took(m.w.Begin(m.now))
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			m.random()
		}
		if rapid.Bool().Draw(t, "end") {
			m.say("shutdown")
			m.took(m.w.End(m.now))
			for range rapid.IntRange(0, 20).Draw(t, "steps after") {
				m.random()
			}
			m.calm()
			if left := m.w.Alive(); len(left) > 0 {
				m.fatalf("the shutdown leaves %d services", len(left))
			}
			return
		}
		m.calm()
		m.judgeCalm()
	})
}

// world0 draws a set of services; cycles and missing needs included.
func world0(t *rapid.T) ([]graph.Node, map[string]spec.Spec) {
	n := rapid.IntRange(1, 7).Draw(t, "services")
	names := make([]string, n+1)
	for i := range names {
		names[i] = string(rune('a' + i)) // the last one does not exist
	}
	draw := func(what string, more bool) []string {
		var list []string
		for _, name := range names[:n] {
			if more && rapid.IntRange(0, 4).Draw(t, what) == 0 {
				list = append(list, name)
			}
		}
		if rapid.IntRange(0, 30).Draw(t, what+" missing") == 0 {
			list = append(list, names[n])
		}
		return list
	}
	var nodes []graph.Node
	specs := map[string]spec.Spec{}
	forward := rapid.IntRange(0, 3).Draw(t, "cycles") > 0
	for _, name := range names[:n] {
		node := graph.Node{Name: name, Needs: draw("needs", true), Wants: draw("wants", true),
			After: draw("after", true)}
		trim := func(list []string) []string { // only earlier ones: no cycle
			return slices.DeleteFunc(list,
				func(x string) bool { return x == name || forward && x >= name && x != names[n] })
		}
		node.Needs, node.Wants, node.After = trim(node.Needs), trim(node.Wants), trim(node.After)
		nodes = append(nodes, node)
		sp := spec.Spec{
			Name: name, Needs: node.Needs, Wants: node.Wants, After: node.After,
			Type:        rapid.SampledFrom([]spec.Type{spec.Simple, spec.Notify, spec.Oneshot}).Draw(t, "type"),
			Restart:     rapid.SampledFrom([]spec.Restart{spec.Always, spec.OnFailure, spec.Never}).Draw(t, "restart"),
			KillMode:    rapid.SampledFrom([]spec.KillMode{spec.Group, spec.Group, spec.Process}).Draw(t, "kill"),
			StopTimeout: time.Duration(rapid.IntRange(0, 3).Draw(t, "stop timeout")) * time.Second,
		}
		sp.StartTimeout = time.Duration(rapid.IntRange(0, 5).Draw(t, "start timeout")) * time.Second
		if sp.Type == spec.Oneshot && sp.Restart == spec.Always {
			sp.Restart = spec.Never
		}
		if rapid.IntRange(0, 3).Draw(t, "rich") == 0 {
			enrich(t, &sp, names[:n])
		}
		specs[name] = sp
	}
	return nodes, specs
}

// enrich gives a service some of what few have.
func enrich(t *rapid.T, sp *spec.Spec, names []string) {
	if foe := rapid.SampledFrom(names).Draw(t, "conflicts"); foe != sp.Name && !slices.Contains(sp.Needs, foe) {
		sp.Conflicts = []string{foe}
	}
	switch rapid.IntRange(0, 4).Draw(t, "demand") {
	case 0:
		sp.Start, sp.Listen.Sockets = spec.OnDemand, []spec.Socket{{Network: "tcp", Address: ":1"}}
	case 1:
		sp.Start, sp.Timer.Every, sp.Timer.Spread = spec.OnDemand, time.Hour, time.Minute
	case 2:
		sp.Start, sp.Timer.AfterBoot, sp.WatchPaths = spec.OnDemand, time.Second, []string{"/a"}
	}
	if sp.Type == spec.Notify && rapid.Bool().Draw(t, "watchdog") {
		sp.WatchdogEvery = 2 * time.Second
	}
	if sp.Type == spec.Simple && rapid.Bool().Draw(t, "probe") {
		sp.Ready.Port = "tcp:127.0.0.1:1"
	}
	sp.GiveUp = spec.GiveUp{Lives: rapid.IntRange(0, 4).Draw(t, "give up"), Within: time.Minute}
}

// random does one thing that can happen.
func (m *model) random() {
	t := m.t
	i := rapid.IntRange(0, len(m.bodies)-1).Draw(t, "service")
	b := &m.bodies[i]
	what := rapid.SampledFrom([]string{"answer", "answer", "answer", "exit", "exit", "ready", "pass", "pass", "start",
		"stop", "restart", "fire", "skip", "alive", "sick", "quits", "reload"}).Draw(t, "what")
	switch what {
	case "answer":
		m.answer(i, rapid.IntRange(0, 5).Draw(t, "fork fails") > 0, rapid.IntRange(0, 5).Draw(t, "deaf") == 0)
	case "exit":
		if b.alive {
			m.died(i, rapid.IntRange(0, 1).Draw(t, "code"))
		}
	case "ready":
		if b.alive {
			m.say("ready %s", m.w.Graph.Names[i])
			m.feed(i, lifecycle.Input{Event: lifecycle.Ready})
		}
	case "pass":
		m.pass(time.Duration(rapid.SampledFrom([]int{0, 1, 99, 101, 1000, 5000, 40000, 3600000}).Draw(t,
			"ms")) * time.Millisecond)
	case "start":
		m.say("start %s", m.w.Graph.Names[i])
		m.took(m.w.Ask(m.now, i, lifecycle.Want))
	case "stop":
		m.say("stop %s", m.w.Graph.Names[i])
		m.feed(i, lifecycle.Input{Event: lifecycle.Stop})
	case "fire", "sick", "quits", "alive", "reload":
		m.event(i, what)
	case "skip":
		if b.forks > 0 && m.w.Services[i].Phase == lifecycle.Starting { // else it is told that it was overtaken
			b.forks--
			m.say("skip %s", m.w.Graph.Names[i])
			m.feed(i, lifecycle.Input{Event: lifecycle.Skip, Why: "condition"})
		}
	case "restart":
		m.say("restart %s", m.w.Graph.Names[i])
		m.took(m.w.Ask(m.now, i, lifecycle.Restart))
	}
}

// event is something that may be said of a service at any time.
func (m *model) event(i int, what string) {
	m.say("%s %s", what, m.w.Graph.Names[i])
	alive := m.bodies[i].alive
	switch {
	case what == "fire" && m.w.Specs[i].Demand():
		m.feed(i, lifecycle.Input{Event: lifecycle.Fire})
	case what == "sick" && alive:
		m.feed(i, lifecycle.Input{Event: lifecycle.Sick, Why: "unhealthy"})
	case what == "quits" && alive:
		m.feed(i, lifecycle.Input{Event: lifecycle.Quits})
	case what == "alive" && alive:
		m.feed(i, lifecycle.Input{Alive: true})
	case what == "reload" && alive:
		m.feed(i, lifecycle.Input{Reloading: true})
	}
}

// answer answers one open question about i, if there is one; the fork first, as the loop does.
func (m *model) answer(i int, ok, deaf bool) bool {
	b := &m.bodies[i]
	switch {
	case b.forks > 0:
		m.began(i, ok, deaf)
	case b.alive && (b.killed || b.termed && !b.deaf):
		m.died(i, 137)
	case b.sweeps > 0:
		m.swept(i)
	default:
		return false
	}
	return true
}

// calm lets everything go as it should until nothing moves any more.
func (m *model) calm() {
	m.say("calm")
	for range 1000 {
		moved := false
		for i := range m.bodies {
			for m.answer(i, true, false) {
				moved = true
			}
			if s := &m.w.Services[i]; s.Phase == lifecycle.Starting && m.bodies[i].alive {
				moved = true
				if m.w.Specs[i].Type == spec.Oneshot {
					m.died(i, 0)
				} else {
					m.feed(i, lifecycle.Input{Event: lifecycle.Ready})
				}
			}
		}
		if !moved && !m.hurry() {
			return
		}
	}
	m.fatalf("it never comes to rest: %v", m.states())
}

// hurry goes on to the next deadline that is not one of rest: services that are up keep sending
// watchdog messages, and armed ones wait for a demand that does not come.
func (m *model) hurry() bool {
	next := -1
	for i := range m.w.Services {
		switch s := &m.w.Services[i]; {
		case s.Phase == lifecycle.Up && !s.Deadline.IsZero():
			m.feed(i, lifecycle.Input{Alive: true})
		case s.Phase == lifecycle.Up, s.Phase == lifecycle.Armed && s.Deadline.After(m.now), s.Deadline.IsZero():
		case next < 0 || s.Deadline.Before(m.w.Services[next].Deadline):
			next = i
		}
	}
	if next < 0 {
		return false
	}
	m.now = later(m.now, m.w.Services[next].Deadline)
	if m.w.Services[next].Phase == lifecycle.Clearing { // the world goes on without the answer
		m.bodies[next].litter, m.bodies[next].sweeps = false, 0
	}
	m.feed(next, lifecycle.Input{Event: lifecycle.Timer})
	return true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (m *model) states() []string {
	var out []string
	for i := range m.w.Services {
		out = append(out, m.w.Graph.Names[i]+"="+m.w.Services[i].Phase.String())
	}
	return out
}

// judgeCalm holds that all that is asked for is up, done, or visibly not.
func (m *model) judgeCalm() {
	for i := range m.w.Services {
		s, name := &m.w.Services[i], m.w.Graph.Names[i]
		alive := m.bodies[i].alive
		if alive != (s.Phase == lifecycle.Up) {
			m.fatalf("%s is %s and its process is there: %t", name, s.Phase, alive)
		}
		switch {
		case s.Phase == lifecycle.Up, s.Phase == lifecycle.Done, s.Phase == lifecycle.Failed,
			s.Phase == lifecycle.Skipped, s.Phase == lifecycle.Armed, s.Phase == lifecycle.Down && !s.Wanted:
		case s.Phase == lifecycle.Waiting && m.w.stands[i] == gone && m.w.Reason(i) != "":
		default:
			m.fatalf("%s rests %s (asked for: %t)", name, s.Phase, s.Wanted)
		}
	}
}

// TestStopBeforeThoseAfterIt: who only comes after a service does not hold up its stop, and stays; going down together
// they go in reverse order.
func TestStopBeforeThoseAfterIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		simple := spec.Spec{Name: "first", Type: spec.Simple, Restart: spec.Always, StopTimeout: time.Second}
		second, wanting := simple, simple
		second.Name, second.After = "second", []string{"first"}
		wanting.Name, wanting.Wants = "wanting", []string{"first"}
		m := newModel(t, []graph.Node{{Name: "first"}, {Name: "second", After: second.After},
			{Name: "wanting", Wants: wanting.Wants}},
			map[string]spec.Spec{"first": simple, "second": second, "wanting": wanting})
		index := func(name string) int { return slices.Index(m.w.Graph.Names, name) }
		m.took(m.w.Begin(m.now))
		m.calm()
		m.feed(index("first"), lifecycle.Input{Event: lifecycle.Stop})
		m.calm()
		m.judgeCalm()
		for name, want := range map[string]lifecycle.Phase{"first": lifecycle.Down, "second": lifecycle.Up,
			"wanting": lifecycle.Up} {
			if got := m.w.Services[index(name)].Phase; got != want {
				m.fatalf("after the stop of first, %s is %s, want %s", name, got, want)
			}
		}
		m.took(m.w.Ask(m.now, index("first"), lifecycle.Want))
		m.calm()
		m.took(m.w.End(m.now)) // judge looks at the order
		m.calm()
		if left := m.w.Alive(); len(left) > 0 {
			m.fatalf("the shutdown leaves %d services: %v", len(left), m.states())
		}
	})
}

// TestCrashLoopDoesNotSpin: a service that exits at once for ever is tried a bounded number of
// times, and the pauses are 0, 0.1, 0.2, … 30 s.
func TestCrashLoopDoesNotSpin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sp := spec.Spec{Name: "a", Type: spec.Simple, Restart: spec.Always}
		m := newModel(t, []graph.Node{{Name: "a"}}, map[string]spec.Spec{"a": sp})
		life := time.Duration(rapid.IntRange(0, 9000).Draw(t, "life in ms")) * time.Millisecond
		cannot := rapid.Bool().Draw(t, "cannot start")
		m.took(m.w.Begin(m.now))
		for end := m.now.Add(time.Hour); m.now.Before(end); {
			if !m.answer(0, !cannot, false) {
				if m.bodies[0].alive {
					m.pass(life)
					m.died(0, 0)
					continue
				}
				m.pass(max(time.Millisecond, m.w.Services[0].Deadline.Sub(m.now)))
			}
		}
		starts := m.bodies[0].started
		if n := len(starts); n < 90 || n > 140 {
			t.Fatalf("%d starts in an hour of lives of %s", n, life)
		}
		for k := range 9 {
			gap := starts[k+2].Sub(starts[k+1]) - life
			if cannot {
				gap += life
			}
			if want := min(100*time.Millisecond<<k, 30*time.Second); gap != want {
				t.Fatalf("pause %d is %s, want %s", k+2, gap, want)
			}
		}
	})
}

// TestStableLifePaysOff: after ten seconds up the next crash is answered at once.
func TestStableLifePaysOff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t, []graph.Node{{Name: "a"}},
			map[string]spec.Spec{"a": {Name: "a", Type: spec.Simple, Restart: spec.Always}})
		m.took(m.w.Begin(m.now))
		for range 20 {
			for m.answer(0, true, false) {
			}
			m.pass(lifecycle.StableLife)
			m.died(0, 1)
			m.swept(0)
			if s := m.w.Services[0].Phase; s != lifecycle.Starting {
				t.Fatalf("after a stable life the service is %s", s)
			}
		}
	})
}
