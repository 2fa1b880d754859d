// Package supervise owns the running services: it starts them in order, brings back what dies,
// and stops them in reverse order. All decisions are pure: one step for each service (package
// lifecycle) and one transaction over all of them (package transaction). A single loop carries
// them out, so that no lock is needed and nothing races. It never parses a file, never waits for
// one service while others have something to say, and never gives up as a whole. Read Supervisor
// first, then its method loop.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/alarm"
	"resinos/services/boottime"
	"resinos/services/cgroup"
	"resinos/services/confine"
	"resinos/services/demand"
	"resinos/services/guard"
	"resinos/services/probe"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/spec/precondition"
	"resinos/services/supervise/check"
	"resinos/services/supervise/command"
	"resinos/services/supervise/lifecycle"
	"resinos/services/supervise/loop"
	"resinos/services/supervise/notification"
	"resinos/services/supervise/processes"
	"resinos/services/supervise/request"
	"resinos/services/supervise/transaction"
)

// Config is what a Supervisor is made of.
type Config struct {
	Specs  []spec.Spec  // the supervisor's from then on, which puts them into its order
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
	// Launcher is the init binary, which as "launch" confines itself and becomes a service's
	// program; empty is /usr/sbin/init.
	Launcher string
	// Conditions judges one condition of a service that is about to start; why says in words what
	// does not hold. It is called beside the loop, for several services at a time, and may block. Nil knows only paths.
	Conditions func(precondition.Condition) (holds bool, why string)
	// Load reads the service files again for the operation rescan; the errors are the faults of
	// files that are not in force. Nil is no such operation.
	Load func() ([]spec.Spec, []error)
	// Seed makes the random delays of timers the device's own.
	Seed uint32
	// Guard catches panics beside the loop; the caller of Run catches those of the loop.
	Guard *guard.Guard
	// Saved is what Save gave in an earlier life of this process, and Files the numbers of the
	// descriptors, which are the supervisor's from then on. Specs then counts for
	// nothing: the services are the ones that were saved. The reaper must not run before New has
	// returned, or an exit in between is known without its status.
	Saved []byte
	Files []int
	// OnState, if not nil, is told of each change: state is a word that status shows. It is
	// called from the loop and must not block.
	OnState func(name, state string)
}

// Supervisor runs a set of services.
type Supervisor struct {
	cfg   Config
	log   *slog.Logger
	world *transaction.World
	index map[string]int // by name, the number in the world
	lives []*life        // by that number
	byID  map[int]*life  // by life.id
	ids   int            // given so far

	resumes bool // Run goes on where an earlier life stopped
	buries  bool // a service whose file is gone may have stopped

	exits  *loop.Queue[death] // marked when an orphan was reaped
	inbox  *notification.Inbox
	checks *check.Runner

	calls    *loop.Calls
	freeze   chan struct{} // closed when the loop is to stop and leave everything as it is
	alarm    alarm.Alarm
	requests request.List // of people, without an answer yet
	groups   *processes.Groups

	demand *demand.Watcher // sees traffic
	// paths sees changes of paths. It is one of its own: a look at a path may hang, and no port must for that.
	paths *demand.Watcher

	background context.Context // of the goroutines beside the loop
	helpers    sync.WaitGroup
}

// New makes a supervisor. Services that can never start (a missing need, a cycle) are logged and
// shown as failed; they keep only their dependants down. It fails on a Config without a Reaper,
// and on a saved state that it cannot read.
func New(cfg Config) (*Supervisor, error) {
	if cfg.Reaper == nil {
		return nil, errors.New("make supervisor: no reaper given")
	}
	cfg = cfg.defaults()
	traffic, err := demand.New(cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("make supervisor: %w", err)
	}
	changes, err := demand.New(cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("make supervisor: %w", err)
	}
	s := &Supervisor{
		cfg: cfg, log: cfg.Log, byID: map[int]*life{}, exits: loop.NewQueue[death](),
		calls: loop.NewCalls(), freeze: make(chan struct{}),
		demand: traffic, paths: changes,
		groups: processes.New(cfg.Cgroups, cfg.Log),
	}
	s.inbox = notification.New(s.groups, cfg.Log)
	s.checks = s.newChecks()
	if cfg.Saved != nil {
		return s, s.restore()
	}
	s.settle(cfg.Specs)
	s.cfg.Specs = nil // the world has them
	return s, nil
}

func (s *Supervisor) newChecks() *check.Runner {
	return &check.Runner{
		Calls: s.calls, Guard: s.cfg.Guard, Log: s.log, Holds: s.cfg.Conditions,
		Start: func(sp *spec.Spec, argv []string, onExit func(proc.Status)) (*proc.Process, error) {
			return s.beside(sp, argv, command.Inherited{}, onExit)
		},
	}
}

func (cfg Config) defaults() Config {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.ConsolePath == "" {
		cfg.ConsolePath = "/dev/console"
	}
	if cfg.StopLimit == 0 {
		cfg.StopLimit = 40 * time.Second
	}
	if cfg.Launcher == "" {
		cfg.Launcher = "/usr/sbin/init"
	}
	if cfg.Conditions == nil {
		cfg.Conditions = probe.Path
	}
	return cfg
}

// settle makes the world of the given services anew. A service that was known before keeps its
// state and its life.
func (s *Supervisor) settle(list []spec.Spec) {
	before, lives, index := s.world, s.lives, s.index
	g, specs := transaction.Arrange(list, s.log)
	s.world = transaction.New(g, specs, time.Now(), transaction.Setting{Epoch: boottime.Time(0), Seed: s.cfg.Seed})
	s.lives, s.index = make([]*life, len(g.Names)), make(map[string]int, len(g.Names))
	for i, name := range g.Names {
		s.index[name] = i
		if old, known := index[name]; known {
			s.lives[i] = lives[old]
			s.lives[i].num = i
			s.world.Services[i] = before.Services[old]
			s.world.UpdateBroken(i)
			continue
		}
		s.ids++
		s.lives[i] = &life{id: s.ids, num: i, shown: lifecycle.Down}
		s.byID[s.ids] = s.lives[i]
	}
	if before != nil {
		s.alarm.Stop()
	}
	s.alarm = alarm.New(len(g.Names))
	s.inbox.SetLimits(specs)
}

// ErrFrozen is what Run returns after Freeze.
var ErrFrozen = errors.New("supervisor is frozen")

// Freeze has Run return with ErrFrozen between two inputs, with every service left as it is: what
// Save then gives is whole. It returns when Run is about to.
func (s *Supervisor) Freeze(ctx context.Context) error {
	if err := s.calls.Do(ctx, func() { close(s.freeze) }); err != nil {
		return fmt.Errorf("freeze supervisor: %w", err)
	}
	return nil
}

// Run starts everything and supervises it until ctx is cancelled; then it stops everything in
// reverse order, and returns nil when nothing is left. If something cannot be stopped within the
// limit all groups are killed, and the error names what was still there. It may be called once.
func (s *Supervisor) Run(ctx context.Context) error {
	defer s.calls.End()
	s.cfg.Reaper.OnOrphan(func(proc.Status) { s.exits.Mark() })
	defer s.cfg.Reaper.OnOrphan(nil)
	defer func() { s.alarm.Stop() }()
	defer s.accompany()()
	if s.resumes {
		s.resume()
	} else {
		s.do(s.world.Begin(time.Now()))
	}
	return s.loop(ctx)
}

func (s *Supervisor) loop(ctx context.Context) error {
	limit := (<-chan time.Time)(nil)
	cancelled := ctx.Done()
	for {
		select {
		case <-s.freeze:
			return ErrFrozen
		default:
		}
		select {
		case <-cancelled:
			cancelled = nil
			limit = time.After(s.cfg.StopLimit)
			s.log.Info("services stopping", "count", len(s.world.Alive()))
			s.do(s.world.End(time.Now()))
		case <-s.exits.Wake():
			s.post()
		case n := <-s.inbox.C():
			s.note(n)
		case do := <-s.calls.C():
			do()
		case f := <-s.demand.Fired():
			s.paths.Disarm(f.ID) // as of its own
			s.fired(f)
		case f := <-s.paths.Fired():
			s.demand.Disarm(f.ID) // as above
			s.fired(f)
		case <-s.alarm.C():
			s.ring(time.Now())
		case <-limit:
			return s.abandon()
		}
		s.bury()
		if s.world.Ending && len(s.world.Alive()) == 0 {
			return nil
		}
	}
}

// accompany starts what runs beside the loop, and returns what ends it.
func (s *Supervisor) accompany() func() {
	ctx, cancel := context.WithCancel(context.Background())
	s.background = ctx
	s.checks.Begin(ctx)
	s.openInbox()
	s.helpers.Add(1)
	s.cfg.Guard.Go("demand", func() {
		defer s.helpers.Done()
		if err := s.demand.Run(ctx); ctx.Err() == nil {
			s.log.Error("demand not watched any more", "error", err)
		}
	})
	// not waited for: a look at a path on a mount that hangs may last for ever
	s.cfg.Guard.Go("paths", func() {
		if err := s.paths.Run(ctx); ctx.Err() == nil {
			s.log.Error("changes of paths are not seen any more", "error", err)
		}
	})
	return func() {
		cancel()
		s.helpers.Wait()
		s.checks.Wait()
	}
}

// openInbox opens the readiness socket, if an earlier life has not left it. Without it services of type notify are
// treated as simple ones.
func (s *Supervisor) openInbox() {
	if err := s.inbox.Open(s.cfg.NotifyPath); err != nil {
		for i := range s.world.Specs {
			if sp := &s.world.Specs[i]; sp.Type == spec.Notify {
				s.log.Warn("readiness unknown", "service", sp.Name, "error", err)
				sp.Type = spec.Simple
			}
		}
		return
	}
	s.helpers.Add(1)
	s.cfg.Guard.Go("notify", func() {
		defer s.helpers.Done()
		if err := s.inbox.Run(s.background); s.background.Err() == nil {
			s.log.Error("readiness socket closed", "error", err)
		}
	})
}

// post handles what other goroutines left in the mailbox.
func (s *Supervisor) post() {
	exits, orphaned := s.exits.Take()
	for _, x := range exits {
		switch l := x.life; {
		case s.byID[l.id] != l: // its service is forgotten, and its number is another's
		case x.client:
			s.left(l, x.status.Pid)
		case s.world.Services[l.num].PID == x.status.Pid:
			s.feed(l.num, lifecycle.Input{Event: lifecycle.Exit, Status: x.status, Why: s.cause(x)})
		}
		// Else it was the main process before another one was followed.
	}
	if orphaned {
		s.sweepAgain()
	}
}

// cause says in words what is known about the end of a main process beside its status.
func (s *Supervisor) cause(x death) string {
	if text := confine.ExitText(code(x.status)); text != "" {
		return text
	}
	if !x.status.OK() && s.groups.OOMKills(s.name(x.life.num)) > x.life.ooms {
		return "for want of memory"
	}
	return ""
}

// code is the exit code of a process that ended by itself, -1 for any other.
func code(st proc.Status) int {
	if st.Wait.Exited() {
		return st.Wait.ExitStatus()
	}
	return -1
}

// ring handles every deadline that is over.
func (s *Supervisor) ring(now time.Time) {
	s.alarm.Rang()
	for i, ok := s.alarm.Due(now); ok; i, ok = s.alarm.Due(now) {
		s.do(s.world.Feed(now, i, lifecycle.Input{Event: lifecycle.Timer}))
	}
	if s.groups.Sweeps.Due(now) {
		s.sweepAgain()
	}
	s.alarm.Set(s.groups.Sweeps.Next())
}

// abandon gives up on an orderly shutdown.
func (s *Supervisor) abandon() error {
	var names []string
	for _, i := range s.world.Alive() {
		names = append(names, s.world.Graph.Names[i])
		if p := s.lives[i].process; p != nil && s.world.Services[i].PID != 0 {
			p.SignalGroup(unix.SIGKILL) // best effort: all of it is killed below, where there are groups
		}
	}
	slices.Sort(names)
	err := fmt.Errorf("stop services: not within %s: %s", s.cfg.StopLimit, strings.Join(names, ", "))
	return errors.Join(err, s.groups.KillAll())
}
