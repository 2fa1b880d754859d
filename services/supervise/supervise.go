// Package supervise owns the running services: it starts them in order, brings back what dies,
// and stops them in reverse order. All decisions are in one pure step per service and one
// two-phase transaction over all of them; a single loop carries them out, so that no lock is
// needed and nothing races. It never parses a file, never waits for one service while others have
// something to say, and never gives up as a whole. Read world first.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/cgroup"
	"resinos/services/graph"
	"resinos/services/notify"
	"resinos/services/proc"
	"resinos/services/spec"
)

// Config is what a Supervisor is made of.
type Config struct {
	Specs  []spec.Spec
	Reaper *proc.Reaper // its Run must run as long as the Supervisor's, which takes its OnOrphan
	Log    *slog.Logger
	// Output gives the file for standard output and error of a service. It is asked before each
	// start and keeps the file: the supervisor never closes it. Nil, or an error, is /dev/null.
	Output func(name string) (*os.File, error)
	// Cgroups holds a group per service. Nil is none: then only a service's own process group is
	// killed with it.
	Cgroups *cgroup.Tree
	// NotifyPath is where the readiness socket is made. Empty, or if it cannot be made, services
	// of type notify count as up when they run.
	NotifyPath string
	// ConsolePath is the terminal of services with log = "console"; empty is /dev/console.
	ConsolePath string
	// StopLimit bounds the whole shutdown; zero is 40 s.
	StopLimit time.Duration
	// OnState, if not nil, is told of each change: state is a word that status shows. It is
	// called from the loop and must not block.
	OnState func(name, state string)
}

// Supervisor runs a fixed set of services.
type Supervisor struct {
	cfg   Config
	log   *slog.Logger
	world *world
	index map[string]int
	lives []life // by number

	mail   mailbox
	notes  chan note
	calls  chan call
	ended  chan struct{} // closed when Run returns
	alarm  alarm
	asked  []*watcher
	sweeps sweeps
}

// life is what the loop knows of a service beyond its state.
type life struct {
	process *proc.Process
	text    string  // its latest STATUS=
	changed float64 // seconds since kernel start
	shown   phase   // what was logged last
}

// New makes a supervisor. Services that can never start (a missing need, a cycle) are logged and
// shown as failed; they keep only their dependants down. It fails only on a Config without a
// Reaper.
func New(cfg Config) (*Supervisor, error) {
	if cfg.Reaper == nil {
		return nil, errors.New("make supervisor: no reaper given")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.ConsolePath == "" {
		cfg.ConsolePath = "/dev/console"
	}
	if cfg.StopLimit == 0 {
		cfg.StopLimit = 40 * time.Second
	}
	nodes := make([]graph.Node, len(cfg.Specs))
	byName := make(map[string]*spec.Spec, len(cfg.Specs))
	for i := range cfg.Specs {
		sp := &cfg.Specs[i]
		nodes[i] = graph.Node{Name: sp.Name, Needs: sp.Needs, Wants: sp.Wants, After: sp.After}
		if byName[sp.Name] == nil { // the graph, too, keeps the first
			byName[sp.Name] = sp
		}
	}
	g := graph.Build(nodes)
	for _, f := range g.Faults {
		cfg.Log.Error("service order", "service", f.Service, "error", f.Text)
	}
	specs := make([]spec.Spec, len(g.Names))
	s := &Supervisor{
		cfg: cfg, log: cfg.Log, index: make(map[string]int, len(g.Names)),
		lives: make([]life, len(g.Names)), mail: newMailbox(), notes: make(chan note, 64),
		calls: make(chan call), ended: make(chan struct{}), alarm: newAlarm(len(g.Names)),
	}
	for i, name := range g.Names {
		specs[i] = *byName[name]
		s.index[name] = i
		s.lives[i].shown = down
	}
	s.world = newWorld(g, specs, time.Now())
	return s, nil
}

// Run starts everything and supervises it until ctx is cancelled; then it stops everything in
// reverse order, and returns nil when nothing is left. If something cannot be stopped within the
// limit all groups are killed, and the error names what was still there. It may be called once.
func (s *Supervisor) Run(ctx context.Context) error {
	defer close(s.ended)
	s.cfg.Reaper.OnOrphan(func(proc.Status) { s.mail.orphan() })
	defer s.cfg.Reaper.OnOrphan(nil)
	defer s.alarm.stop()
	listening := s.listen()
	defer listening()

	s.do(s.world.begin(time.Now()))
	limit := (<-chan time.Time)(nil)
	cancelled := ctx.Done()
	for {
		select {
		case <-cancelled:
			cancelled = nil
			limit = time.After(s.cfg.StopLimit)
			s.log.Info("services stopping", "count", len(s.world.alive()))
			s.do(s.world.end(time.Now()))
		case <-s.mail.wake:
			s.post()
		case n := <-s.notes:
			s.note(n)
		case c := <-s.calls:
			c.do()
		case <-s.alarm.timer.C:
			s.ring(time.Now())
		case <-limit:
			return s.abandon()
		}
		if s.world.ending && len(s.world.alive()) == 0 {
			return nil
		}
	}
}

// listen opens the readiness socket and returns what closes it. Without it services of type
// notify are treated as simple ones.
func (s *Supervisor) listen() func() {
	l, err := (*notify.Listener)(nil), errors.New("no path given")
	if s.cfg.NotifyPath != "" {
		l, err = notify.Listen(s.cfg.NotifyPath)
	}
	if err != nil {
		for i := range s.world.specs {
			if sp := &s.world.specs[i]; sp.Type == spec.Notify {
				s.log.Warn("readiness unknown", "service", sp.Name, "error", err)
				sp.Type = spec.Simple
			}
		}
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		if err := l.Run(ctx, s.accept(ctx), s.refuse); ctx.Err() == nil {
			s.log.Error("readiness socket closed", "error", err)
		}
	}()
	return func() {
		cancel()
		<-over
	}
}

// post handles what other goroutines left in the mailbox.
func (s *Supervisor) post() {
	exits, orphaned := s.mail.take()
	at := time.Now()
	for _, x := range exits {
		if s.lives[x.svc].process == nil || s.lives[x.svc].process.Pid != x.status.Pid {
			continue // not reached: a life ends once, and the next one begins after that
		}
		s.do(s.world.feed(at, x.svc, input{event: exit, status: x.status}))
	}
	if orphaned {
		s.sweepAgain()
	}
}

// ring handles every deadline that is over.
func (s *Supervisor) ring(now time.Time) {
	s.alarm.at = time.Time{}
	for i, ok := s.alarm.due(now); ok; i, ok = s.alarm.due(now) {
		s.do(s.world.feed(now, i, input{event: timer}))
	}
	if s.sweeps.due(now) {
		s.sweepAgain()
	}
	s.alarm.set(s.sweeps.next)
}

// abandon gives up on an orderly shutdown.
func (s *Supervisor) abandon() error {
	var names []string
	for _, i := range s.world.alive() {
		names = append(names, s.world.graph.Names[i])
		if p := s.lives[i].process; p != nil && s.world.svcs[i].pid != 0 {
			p.SignalGroup(unix.SIGKILL) // best effort: all of it is killed below, where there are groups
		}
	}
	slices.Sort(names)
	err := fmt.Errorf("stop services: not within %s: %s", s.cfg.StopLimit, strings.Join(names, ", "))
	if s.cfg.Cgroups != nil {
		err = errors.Join(err, s.cfg.Cgroups.KillAll())
	}
	return err
}
