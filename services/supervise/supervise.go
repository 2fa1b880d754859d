// Package supervise owns the running services: it starts them in order, starts those again that end, and stops them in
// reverse order. Packages below it make each decision, and each holds one kind of resource. One loop carries the
// decisions out, so the state needs no lock. The package parses no file and waits for no service. Read Supervisor
// first, then its method loop.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"resinos/services/alarm"
	"resinos/services/boottime"
	"resinos/services/cgroup"
	"resinos/services/demand"
	"resinos/services/guard"
	"resinos/services/probe"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/spec/precondition"
	"resinos/services/supervise/check"
	"resinos/services/supervise/command"
	"resinos/services/supervise/handle"
	"resinos/services/supervise/lifecycle"
	"resinos/services/supervise/loop"
	"resinos/services/supervise/notification"
	"resinos/services/supervise/processes"
	"resinos/services/supervise/request"
	"resinos/services/supervise/starter"
	"resinos/services/supervise/transaction"
)

// Config says what a Supervisor runs and what it works with.
type Config struct {
	Specs  []spec.Spec  // belongs to the supervisor afterwards, which sorts it
	Reaper *proc.Reaper // its Run must run as long as that of the Supervisor, which uses its OnOrphan
	Log    *slog.Logger
	// Output returns the file for standard output and error of a service. It is called before each start and keeps the
	// file: the supervisor never closes it. Nil, or an error, is /dev/null.
	Output func(name string) (*os.File, error)
	// Cgroups holds a cgroup for each service. Without it only the process group of a service is killed with it.
	Cgroups *cgroup.Tree
	// NotifyPath is the path of the readiness socket. If it is empty, or the socket cannot be created, services of type
	// notify count as up when they run.
	NotifyPath string
	// ConsolePath is the terminal of services with log = "console"; empty is /dev/console.
	ConsolePath string
	// StopLimit is the longest time for a shutdown; zero is 40 s.
	StopLimit time.Duration
	// Launcher is the init binary, which as "launch" confines itself and then executes the program of a service; empty
	// is /usr/sbin/init.
	Launcher string
	// Conditions judges one condition of a service before its start; why says in words what does not hold. Several
	// goroutines may call it at a time, and it may block. Nil judges paths only.
	Conditions func(precondition.Condition) (holds bool, why string)
	// Load reads the service files again for Rescan; the errors are the faults of files that are not in force. Without
	// it Rescan fails.
	Load func() ([]spec.Spec, []error)
	// Seed makes the random delays of timers differ from those of other devices.
	Seed uint32
	// Guard catches panics in the goroutines beside the loop; the caller of Run catches those of the loop.
	Guard *guard.Guard
	// Saved is what Save returned in an earlier life of this process. Files are the numbers of the descriptors, which
	// belong to the supervisor afterwards. Specs is then ignored: the services are those that were saved. The reaper
	// must not run before New has returned, or the status of a process that ends in between is lost.
	Saved []byte
	Files []int
	// Started are processes of services that the caller has started with Reaper before there was a supervisor. In place
	// of the first process of such a service, the supervisor takes over the one that is there.
	Started map[string]*Started
	// OnState, if not nil, is called for each change of a service with the word that status shows. The loop calls it,
	// so it must not block.
	OnState func(name, state string)
}

// Started is a process that runs before the supervisor. Exit must be its OnExit.
type Started struct {
	Process *proc.Process
	Began   time.Duration // since the kernel started

	mu     sync.Mutex // guards what follows
	status *proc.Status
	onExit func(proc.Status)
}

// Exit notes the end of the process.
func (e *Started) Exit(st proc.Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status = &st
	if e.onExit != nil {
		e.onExit(st)
	}
}

// take has onExit called with the end of the process. It fails if the process is gone and nobody was told.
func (e *Started) take(onExit func(proc.Status)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.status != nil {
		onExit(*e.status)
		return nil
	}
	e.onExit = onExit
	_, err := proc.StartTime(e.Process.Pid) // one that has ended is there until it is reaped
	return err
}

// Supervisor runs a set of services. All fields belong to the loop, except where a comment names another goroutine.
type Supervisor struct {
	cfg     Config
	log     *slog.Logger
	world   *transaction.World
	index   map[string]int         // by name: the number in the world
	handles []*handle.Handle       // by that number
	byID    map[int]*handle.Handle // by handle.id
	ids     int                    // given out so far

	resumed bool // Run continues what an earlier life of PID 1 began
	forgets bool // a service whose file is gone may have stopped

	calls    *loop.Calls              // any goroutine
	exits    *loop.Queue[handle.Exit] // filled by the reaper; marked when it has reaped an orphan
	inbox    *notification.Inbox
	checks   *check.Runner
	groups   *processes.Groups
	starter  *starter.Starter // any goroutine
	requests request.List     // of people, not answered yet
	alarm    alarm.Alarm      // the deadlines of services, and the next sweep
	freeze   chan struct{}    // closed by Freeze: the loop stops and leaves everything as it is

	demand *demand.Watcher // sees traffic
	// paths sees changes of paths. It is a Watcher of its own because a look at a path may hang, and ports must not
	// wait.
	paths *demand.Watcher

	background context.Context // of the goroutines beside the loop
	helpers    sync.WaitGroup  // some of them
}

// New returns a supervisor. Services that can never start (a missing need, a cycle) are logged and shown as failed;
// only the services that need them stay down with them. It fails without a Reaper, and on a saved state that it
// cannot read.
func New(cfg Config) (*Supervisor, error) {
	if cfg.Reaper == nil {
		return nil, errors.New("create supervisor: no reaper given")
	}
	s := assemble(cfg)
	for _, w := range []**demand.Watcher{&s.demand, &s.paths} {
		var err error
		if *w, err = demand.New(s.log); err != nil {
			return nil, fmt.Errorf("create supervisor: %w", err)
		}
	}
	if s.cfg.Saved != nil {
		return s, s.restore()
	}
	s.rebuild(cfg.Specs)
	s.cfg.Specs = nil // they are in the world
	return s, nil
}

// assemble returns a supervisor that has no services and watches no demand.
func assemble(cfg Config) *Supervisor {
	cfg = cfg.defaults()
	s := &Supervisor{
		cfg: cfg, log: cfg.Log, byID: map[int]*handle.Handle{}, freeze: make(chan struct{}),
		calls: loop.NewCalls(), exits: loop.NewQueue[handle.Exit](), groups: processes.New(cfg.Cgroups, cfg.Log),
	}
	s.inbox = notification.New(s.groups, cfg.Log)
	s.starter, s.checks = s.newStarter(), s.newChecks()
	return s
}

func (s *Supervisor) newStarter() *starter.Starter {
	return &starter.Starter{
		Maker: command.Maker{
			Launcher: s.cfg.Launcher, NotifyPath: s.cfg.NotifyPath, ConsolePath: s.cfg.ConsolePath,
			Output: s.cfg.Output, Log: s.log,
		},
		Groups: s.groups, Reaper: s.cfg.Reaper, Log: s.log,
	}
}

func (s *Supervisor) newChecks() *check.Runner {
	return &check.Runner{
		Calls: s.calls, Guard: s.cfg.Guard, Log: s.log, Holds: s.cfg.Conditions,
		Start: func(sp *spec.Spec, argv []string, onExit func(proc.Status)) (*proc.Process, error) {
			return s.starter.Extra(sp, argv, command.Inherited{}, onExit)
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

// rebuild replaces the world by that of the given services. A service that was known before keeps its state and its
// handle.
func (s *Supervisor) rebuild(list []spec.Spec) {
	before, handles, index := s.world, s.handles, s.index
	g, specs := transaction.Arrange(list, s.log)
	s.world = transaction.New(g, specs, time.Now(), transaction.Setting{Epoch: boottime.Time(0), Seed: s.cfg.Seed})
	s.handles, s.index = make([]*handle.Handle, len(g.Names)), make(map[string]int, len(g.Names))
	for i, name := range g.Names {
		s.index[name] = i
		if old, known := index[name]; known {
			s.handles[i] = handles[old]
			s.handles[i].Num = i
			s.world.Services[i] = before.Services[old]
			s.world.UpdateBroken(i)
			continue
		}
		s.ids++
		s.handles[i] = &handle.Handle{ID: s.ids, Num: i, Shown: lifecycle.Down}
		s.byID[s.ids] = s.handles[i]
	}
	if before != nil {
		s.alarm.Stop()
	}
	s.alarm = alarm.New(len(g.Names))
	s.inbox.SetLimits(specs)
}
