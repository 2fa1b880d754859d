package life

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"resinos/bsp/update"
	"resinos/init/ahead"
	"resinos/init/boot"
	"resinos/init/condition"
	"resinos/init/console"
	"resinos/init/handover"
	"resinos/init/lastboot"
	"resinos/init/partition"
	"resinos/init/shutdown"
	"resinos/services/bootreport"
	"resinos/services/boottime"
	"resinos/services/control"
	"resinos/services/fault"
	"resinos/services/guard"
	"resinos/services/log/line"
	"resinos/services/osrelease"
	"resinos/services/pid1"
	"resinos/services/proc"
	"resinos/services/sysctl"
)

// printk holds the kernel's console log level first (Linux, Documentation/admin-guide/sysctl/kernel.rst).
const printk = "/proc/sys/kernel/printk"

// PID1 is the first process on the root.
type PID1 struct {
	// Modules opens the loader of the running kernel's modules. It is called only when a module is needed.
	Modules func() (partition.Loader, error)
	// Drivers loads the drivers of displays, and Display reports whether there is one.
	Drivers func() error
	Display func() bool

	signals  <-chan os.Signal
	requests chan request
	reasons  chan string        // of requested re-execs
	pings    chan chan struct{} // closed by the loop
	out      *line.Handler
	log      *slog.Logger
	kernel   io.Writer // the kernel log, nil where there is none
	printk   string    // empty: the constant
	record   *bootreport.Record
	system   *boot.System
	verbose  bool
	guard    *guard.Guard
	leaving  sync.Mutex // locked by the goroutine that ends this life of PID 1, and never unlocked

	socket     *os.File // the control socket; nil until it exists
	kept       *pipes
	reaper     *proc.Reaper
	reaped     chan struct{} // closed when the reaper has ended
	stopReaper func()
	supervisor supervisor    // nil until services run
	supervised chan struct{} // closed when the supervisor has returned, frozen or ended
	stopped    chan struct{} // closed when it has ended by itself or because it was stopped
	stop       func()        // ends the supervisor
	shares     sync.Once     // ends the boot's shares of the processor

	mu    sync.Mutex         // guards down
	down  *shutdown.Shutdown // the running one
	ahead *ahead.Start       // of the splash; nil after a re-exec
	judge condition.Judge    // of the conditions of services
}

// Run runs PID 1. It does not return. The caller must have caught the signals before anything else.
func (p *PID1) Run(signals <-chan os.Signal) {
	defer p.lastResort()
	p.guard = &guard.Guard{Caught: p.caught}
	defer p.guard.Catch("pid 1")
	started := boottime.Now()
	p.signals = signals
	p.requests, p.reasons, p.pings = make(chan request, 1), make(chan string, 1), make(chan chan struct{})
	p.kept = &pipes{open: map[string]*os.File{}}
	earlier, lost := handover.Take()
	keepSmall()
	console.TakeStdio()
	p.begin()
	switch {
	case lost != nil:
		p.startAnew(lost)
	case earlier != nil:
		p.resume(earlier)
	default:
		orderFaults()
		p.walk(started)
	}
	p.serve(earlier)
	p.loop()
}

// keepSmall limits the memory of PID 1, and makes it the last process that the kernel kills when memory runs out.
func keepSmall() {
	debug.SetMemoryLimit(16 << 20)
	debug.SetGCPercent(-1) // until restAfter; the limit holds meanwhile
	debug.SetMaxStack(8 << 20)
	runtime.GOMAXPROCS(min(2, runtime.NumCPU()))
	_ = sysctl.Write("/proc/self/oom_score_adj", "-1000") // a test in a namespace without this right does not need it
	_ = os.Setenv("PATH", "/usr/sbin:/usr/bin")           // fails only for malformed names
	unix.Umask(0o022)
	_ = unix.Chdir("/")
}

// restAfter is the time after the start of the services at which memory that only the boot needed is returned to the
// kernel. Most services have started by then, and none of them waits for a collection. The Go runtime alone would keep
// this memory.
const restAfter = 30 * time.Second

// restPercent is the growth of the heap between two collections after restAfter, in per cent of what is in use, and at
// least 40 kB for each per cent: PID 1 at rest makes little garbage.
const restPercent = 10

func (p *PID1) begin() {
	p.verbose = osrelease.Variant() != "production"
	p.out = console.EarlyLog(p.verbose)
	p.log = slog.New(p.out)
	p.kernel = console.KernelLog()
	p.silenceKernel()
	p.reaper = proc.NewReaper()
	// The kernel then sends SIGINT here instead of rebooting at once. In a PID namespace of a test there is no such
	// key.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF)
}

// mark notes a milestone and prints the line that development images show for it.
func (p *PID1) mark(name string, at time.Duration) {
	first, err := p.record.Mark(name, at)
	if err != nil {
		p.log.Warn("milestone not recorded", "error", err)
	}
	if !first {
		return
	}
	if name == bootreport.MilestoneContainerOutput {
		p.booted()
	}
	p.log.Info(fmt.Sprintf("%s %.2fs", name, at.Seconds())) // tests and people wait for exactly this line
}

// silenceKernel ends the kernel's messages on the console of a production image: the screen has the logo, and an app
// may use the serial line to talk to another device. The kernel still prints a panic; all other messages are in the
// log.
func (p *PID1) silenceKernel() {
	if p.verbose {
		return
	}
	if err := sysctl.Write(cmp.Or(p.printk, printk), "1"); err != nil {
		p.log.Warn("kernel messages stay on the console", "path", printk, "error", err)
	}
}

// walk carries out the boot.
func (p *PID1) walk(started time.Duration) {
	before, err := bootreport.Load(bootreport.InitramfsPath)
	if err != nil {
		p.log.Warn("time line of the initramfs is lost", "error", err)
	}
	p.record = bootreport.New(before)
	p.mark(bootreport.MilestoneRoot, started)
	p.system = p.newSystem(boot.Inputs{Variant: osrelease.Variant()})
	if err := p.system.Boot(); err != nil {
		p.log.Error("boot is incomplete", "error", err) // no step is fatal here: PID 1 degrades
	}
}

func (p *PID1) newSystem(in boot.Inputs) *boot.System {
	env := boot.Environment{Log: p.log, Out: p.out, Record: p.record, Verbose: p.verbose, Modules: p.Modules,
		Splash: p.splashAhead}
	return boot.New(env, in)
}

// startAnew handles a state of the earlier life that cannot be read: it is not known which process belongs to which
// service, so all processes are ended and the boot is carried out again. Each step may be carried out twice.
func (p *PID1) startAnew(cause error) {
	p.log.Error("pid 1 re-executed without its state: all services start again", "error", cause)
	shutdown.KillAll(p.log)
	p.walk(boottime.Now())
}

// serve starts the goroutines of PID 1: the reaper, the supervisor, the control socket and the feeding of the watchdog.
func (p *PID1) serve(earlier *handover.State) {
	reaping, stopReaping := context.WithCancel(context.Background())
	p.reaped, p.stopReaper = make(chan struct{}), stopReaping
	running, stop := context.WithCancel(context.Background())
	p.stop, p.supervised, p.stopped = stop, make(chan struct{}), make(chan struct{})
	p.listen() // before the first service, which may call PID 1
	services := p.startServices(running, earlier)
	if earlier != nil {
		p.await() // the supervisor must take over its processes before the reaper reaps those that died meanwhile
	}
	p.guard.Go("reaper", func() {
		defer close(p.reaped)
		p.keep(reaping, "reaper", p.reaper.Run)
	})
	p.guard.Go("control", func() { p.keep(context.Background(), "control", p.control(services)) })
	p.guard.Go("watchdog", p.feedWatchdog)
	if earlier != nil {
		p.resumed(earlier)
	}
	time.AfterFunc(restAfter, func() {
		debug.SetGCPercent(restPercent)
		debug.FreeOSMemory()
	})
	if earlier != nil {
		p.booted() // after a re-exec the boot is over already
	} else {
		time.AfterFunc(bootPatience, p.booted)
	}
	if p.system.Cmdline.Trial {
		time.AfterFunc(trialLimit-boottime.Now(), func() { p.endTrial(update.ConfirmedPath) })
	}
	if earlier != nil && earlier.Down != nil {
		p.resumeShutdown(earlier.Down)
	}
}

// await returns when the supervisor has taken over the services of the earlier life, or when the time for that is over.
func (p *PID1) await() {
	if p.supervisor == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), freezePatience)
	defer cancel()
	if err := p.supervisor.Ping(ctx); err != nil {
		p.log.Error("services not taken over in time", "error", err)
	}
}

// listen creates the control socket, unless the earlier life passed it on.
func (p *PID1) listen() {
	if p.socket != nil {
		return
	}
	socket, err := control.Listen(control.SocketPath)
	if err != nil {
		p.log.Error("control socket is missing", "error", err) // control tries again
		return
	}
	p.socket = socket
}

// control serves the control socket.
func (p *PID1) control(services map[string]control.Handler) func(context.Context) error {
	handlers := p.handlers(services)
	return func(ctx context.Context) error {
		p.listen()
		if p.socket == nil {
			return errNoSocket
		}
		return control.Server{Socket: p.socket, Handlers: handlers, Log: p.log, Guard: p.guard}.Run(ctx)
	}
}

// loop handles signals, requests, and the pings of the watchdog's feeder. It continues during the shutdown.
func (p *PID1) loop() {
	var policy signalPolicy
	for {
		fault.Point("pid1.loop")
		select {
		case s := <-p.signals:
			action, say := policy.step(boottime.Now(), s)
			switch {
			case action != "":
				p.power(request{action: action, why: "signal " + signalName(s)})
			case say:
				logSignal(p.log, s)
			}
		case r := <-p.requests:
			p.power(r)
		case asked := <-p.pings:
			close(asked)
		case reason := <-p.reasons:
			p.reexec(reason)
		}
	}
}

// ping returns when the loop has done one round.
func (p *PID1) ping(ctx context.Context) error {
	asked := make(chan struct{})
	select {
	case p.pings <- asked:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-asked:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// power begins the shutdown, or makes a running shutdown more urgent.
func (p *PID1) power(r request) {
	if d := p.goingDown(); d != nil {
		d.Hurry()
		return
	}
	d := p.beginShutdown(shutdown.New(p.shutdownConfig(r)))
	p.log.Info("shutting down", "action", string(r.action), "reason", r.why)
	p.guard.Go("shutdown", d.Run)
}

// goingDown returns the running shutdown, nil if there is none.
func (p *PID1) goingDown() *shutdown.Shutdown {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

func (p *PID1) beginShutdown(d *shutdown.Shutdown) *shutdown.Shutdown {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = d
	return d
}

// shutdownConfig returns what a shutdown for this request needs. If a failure requests it, the next boot gets the
// reason; a clean end leaves none.
func (p *PID1) shutdownConfig(r request) shutdown.Config {
	end := lastboot.Marker{BootID: lastboot.BootID(), How: lastboot.EndClean, Why: string(r.action)}
	if r.failed {
		end.How, end.Why = lastboot.EndPanic, r.why
	}
	return shutdown.Config{
		Action: r.action, End: end, Marking: &p.system.Marking, Log: p.log, Out: p.out, Verbose: p.verbose,
		Stop: p.stop, Ended: p.stopped, Splash: p.splash, BeforePower: p.system.BeforePower(r.action), Force: r.force,
	}
}

// resumeShutdown continues a shutdown that a re-exec interrupted.
func (p *PID1) resumeShutdown(s *shutdown.Saved) {
	d := p.beginShutdown(shutdown.Resume(p.shutdownConfig(request{action: s.Action}), *s))
	p.log.Info("shutting down", "action", string(d.Action), "reason", d.End.Why)
	p.guard.Go("shutdown", d.Run)
}

// keep runs a goroutine of PID 1 until ctx ends, and starts it again if it fails, because PID 1 is of no use without
// its reaper or its control socket. The guard handles its panics.
func (p *PID1) keep(ctx context.Context, name string, run func(context.Context) error) {
	for {
		err := run(ctx)
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

// lastResort handles a panic while nothing can be saved: the device reboots, which the bootloader counts as a failed
// try. The reason is in the kernel log for pstore, and beside the marker for the next boot.
func (p *PID1) lastResort() {
	cause := recover()
	if p.log == nil {
		p.log = slog.New(console.EarlyLog(true))
	}
	text := fmt.Sprintf("pid 1 ended: %v", cause)
	console.Say(text)
	p.log.Error(text)
	for line := range strings.Lines(string(debug.Stack())) {
		p.log.Error(strings.TrimSpace(line)) // the kernel log takes single lines
	}
	end := lastboot.Marker{BootID: lastboot.BootID(), How: lastboot.EndPanic, Why: text}
	cfg := shutdown.Config{Action: pid1.Reboot, End: end, Log: p.log}
	if p.system != nil {
		cfg.Marking = &p.system.Marking
	}
	shutdown.LastResort(cfg)
}

var (
	errNoSupervisor = errors.New("no service runs")
	errNoSocket     = errors.New("serve control: there is no socket")
)
