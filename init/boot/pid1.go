package boot

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/control"
	"resinos/services/proc"
)

// PID1 is the first process of the real root.
type PID1 struct {
	// Modules opens the loader of the running kernel's modules. It is called only when a module is needed.
	Modules func() (Loader, error)

	signals  <-chan os.Signal
	requests chan Power
	out      *Handler
	log      *slog.Logger
	record   *Record
	system   *system
	verbose  bool
}

// Run is the life of PID 1. It does not return. The caller has caught the signals before anything else.
func (p *PID1) Run(signals <-chan os.Signal) {
	defer p.lastResort()
	started := Now()
	p.signals = signals
	p.requests = make(chan Power, 1)
	limits()
	tameStdio()
	p.begin(started)
	if err := p.walk(); err != nil {
		p.log.Error("boot is incomplete", "error", err) // no step is fatal here: PID 1 degrades
	}
	action := p.serve()
	armHardLimit(action, p.log)
	p.log.Info("going down", "action", string(action))
	down{action: action, log: p.log, out: p.out}.run()
}

// limits keeps PID 1 small: it must be the last process that memory runs out for, and never the reason.
func limits() {
	debug.SetMemoryLimit(16 << 20)
	debug.SetGCPercent(50)
	debug.SetMaxStack(8 << 20)
	runtime.GOMAXPROCS(min(2, runtime.NumCPU()))
	_ = put("/proc/self/oom_score_adj", "-1000") // a name space without the right to it loses nothing
	_ = os.Setenv("PATH", "/usr/sbin:/usr/bin")  // fails only for malformed names
	unix.Umask(0o022)
	_ = unix.Chdir("/")
}

func (p *PID1) begin(started time.Duration) {
	p.verbose = Variant() != "production"
	p.out = EarlyLog(p.verbose)
	p.log = slog.New(p.out)
	before, err := LoadReport(InitramfsReport)
	if err != nil {
		p.log.Warn("time line of the initramfs is lost", "error", err)
	}
	p.record = NewRecord(before)
	p.mark(MilestoneRoot, started)
	// The kernel then sends SIGINT here instead of rebooting at once. A pid name space has no such key.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF)
}

// mark notes a milestone and prints the line that development images show for it.
func (p *PID1) mark(name string, at time.Duration) {
	first, err := p.record.Mark(name, at)
	if err != nil {
		p.log.Warn("milestone is not kept", "error", err)
	}
	if !first {
		return
	}
	line := fmt.Sprintf("%s %.2fs", name, at.Seconds()) // tests and people wait for this very line
	p.log.Info(line)
	if name == MilestoneContainerOutput && !p.verbose {
		Say(line) // the one line of a production image: it has neither ssh nor shell to ask
	}
}

func (p *PID1) walk() error {
	p.system = &system{log: p.log, out: p.out, record: p.record, verbose: p.verbose, modules: p.Modules, Inputs: Inputs{Variant: Variant()}}
	return Walker{Stage: StageRoot, Record: p.record, Log: p.log}.Walk(p.system.actions())
}

// serve keeps the services running until a power action is asked for and they are all stopped.
func (p *PID1) serve() Power {
	reaping, stopReaping := context.WithCancel(context.Background())
	reaper := proc.NewReaper()
	// The reaper outlives serve on purpose: down.run still needs the dead to be reaped, and then the power goes.
	_ = stopReaping
	go p.keep(reaping, "reaper", reaper.Run)

	running, stop := context.WithCancel(context.Background())
	defer stop()
	var daemons sync.WaitGroup
	services := p.startServices(running, reaper, &daemons)
	talking, hangUp := context.WithCancel(context.Background())
	defer hangUp()
	var talkers sync.WaitGroup
	talkers.Go(func() {
		p.keep(talking, "control", func(ctx context.Context) error {
			return control.Serve(ctx, control.SocketPath, p.handlers(services), p.log)
		})
	})

	action := p.await()
	if err := announce(action); err != nil {
		p.log.Warn("services do not learn of the shutdown", "error", err)
	}
	p.log.Info("stopping services", "action", string(action))
	stop()
	if !waitFor(&daemons, stopPatience) {
		p.log.Error("services did not stop in time", "after", stopPatience)
	}
	hangUp()
	waitFor(&talkers, time.Second)
	return action
}

// await is PID 1's loop: signals and requests until one of them asks for the end.
func (p *PID1) await() Power {
	var policy signalPolicy
	for {
		select {
		case s := <-p.signals:
			action, say := policy.step(Now(), s)
			if say {
				logSignal(p.log, s)
			}
			if action != "" {
				return action
			}
		case action := <-p.requests:
			return action
		}
	}
}

// keep runs a daemon of PID 1 until ctx ends. One that fails or panics is started again: PID 1 without its reaper or its
// control socket would be alive but of no use.
func (p *PID1) keep(ctx context.Context, name string, run func(context.Context) error) {
	for {
		err := guard(func() error { return run(ctx) })
		if ctx.Err() != nil {
			return
		}
		p.log.Error("daemon of pid 1 ended", "daemon", name, "error", err)
		pause := time.NewTimer(time.Second)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
	}
}

func waitFor(group *sync.WaitGroup, patience time.Duration) bool {
	done := make(chan struct{})
	go func() { // ends with the group; when that hangs, so does the device's life
		group.Wait()
		close(done)
	}()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-done:
		return true
	case <-limit.C:
		return false
	}
}

// handlers are the operations of the control socket: the supervisor's and PID 1's own.
func (p *PID1) handlers(services map[string]control.Handler) map[string]control.Handler {
	all := map[string]control.Handler{}
	for op, h := range services {
		all[op] = h
	}
	all["boot"] = func(context.Context, json.RawMessage) (any, error) { return p.record.Report(), nil }
	all["plan"] = func(context.Context, json.RawMessage) (any, error) { return Plan(p.system.Inputs), nil }
	all["milestone"] = func(_ context.Context, args json.RawMessage) (any, error) {
		var m struct {
			Name string  `json:"name"`
			At   float64 `json:"at"` // 0: now
		}
		if err := control.Args(args, &m); err != nil {
			return nil, err
		}
		return nil, p.milestone(m.Name, m.At)
	}
	all["power"] = func(ctx context.Context, args json.RawMessage) (any, error) {
		var want struct {
			Action Power `json:"action"`
		}
		if err := control.Args(args, &want); err != nil {
			return nil, err
		}
		return nil, request(ctx, p.requests, want.Action)
	}
	return all
}

// milestone checks what a client says before it becomes part of the report and of a console line.
func (p *PID1) milestone(name string, at float64) error {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || name == "" || len(name) > 64 {
		return fmt.Errorf("milestone %.64q: want small letters, digits and _", name)
	}
	when := time.Duration(at * float64(time.Second))
	if now := Now(); at <= 0 || when > now {
		when = now
	}
	p.mark(name, when)
	return nil
}

// lastResort is for a panic in PID 1's own loop: the device reboots, which the bootloader counts as a failed try, and the reason
// is in the kernel log for pstore.
func (p *PID1) lastResort() {
	cause := recover()
	if p.log == nil {
		p.log = slog.New(EarlyLog(true))
	}
	text := fmt.Sprintf("pid 1 ended: %v", cause)
	Say(text)
	p.log.Error(text)
	for line := range strings.Lines(string(debug.Stack())) {
		p.log.Error(strings.TrimSpace(line)) // the kernel log takes lines
	}
	down{action: Reboot, log: p.log}.sync()
	cutPower(Reboot, p.log)
}
