package life

import (
	"context"
	"errors"
	"hash/fnv"
	"maps"
	"os"
	"sync"
	"time"

	"resinos/init/boot"
	"resinos/init/handover"
	"resinos/init/shutdown"
	"resinos/mounts/plainfile"
	"resinos/services/bootreport"
	"resinos/services/boottime"
	"resinos/services/cgroup"
	"resinos/services/control"
	"resinos/services/fault"
	"resinos/services/log/pipe"
	"resinos/services/pid1"
	"resinos/services/spec"
	"resinos/services/supervise"
)

// notifySocket is where services report that they are ready.
const notifySocket = "/run/resinos/notify.sock"

// engine is the service whose readiness is a milestone.
const engine = "containerd"

// nameSupervisor is the supervisor's name for the guard and the watchdog.
const nameSupervisor = "supervisor"

// supervisor is what PID 1 uses of a supervise.Supervisor.
type supervisor interface {
	Run(ctx context.Context) error
	Handlers() map[string]control.Handler
	Freeze(ctx context.Context) error
	Save() (state []byte, files []*os.File, err error)
	Ping(ctx context.Context) error
	Booted(ctx context.Context) error
}

// bootPatience is how long, at most, the services that no container needs have a smaller share of the processor than
// those that the first container needs. On a device without apps, nothing competes with them.
const bootPatience = time.Minute

// booted ends the shares of the processor that hold during the boot, once.
func (p *PID1) booted() {
	p.shares.Do(func() {
		p.guard.Go("boot shares", func() {
			ctx, cancel := context.WithTimeout(context.Background(), bootPatience)
			defer cancel()
			if p.supervisor == nil {
				return
			}
			if err := p.supervisor.Booted(ctx); err != nil && !errors.Is(err, supervise.ErrFrozen) {
				p.log.Warn("services keep the shares of the boot", "error", err)
			}
		})
	})
}

// startServices starts the supervisor with the services of the step "load services", or with the state of the earlier
// life, and returns its operations. p.supervised is closed when the supervisor has returned.
func (p *PID1) startServices(ctx context.Context, earlier *handover.State) map[string]control.Handler {
	s, err := p.newSupervisor(earlier)
	if err != nil {
		p.log.Error("no service runs", "error", err)
		close(p.supervised)
		close(p.stopped)
		return nil
	}
	p.supervisor, p.system.Specs = s, nil // the supervisor owns them now
	p.mark(bootreport.MilestoneServices, boottime.Now())
	p.guard.Go(nameSupervisor, func() {
		err := func() error {
			defer close(p.supervised)
			return s.Run(ctx)
		}()
		if errors.Is(err, supervise.ErrFrozen) {
			return // a shutdown that waits for the supervisor continues in the next life
		}
		close(p.stopped)
		if err != nil {
			p.log.Error("supervisor ended", "error", err)
		}
		if ctx.Err() == nil {
			// A supervisor runs only once, and a device without one is of no use: reboot.
			p.log.Error("supervisor is gone: rebooting")
			// It cannot fail: Reboot is known, and the loop takes one request.
			_ = p.ask(context.Background(), request{action: pid1.Reboot, why: "the supervisor ended", failed: true})
		}
	})
	return s.Handlers()
}

// newSupervisor restores the state of the earlier life. If the state cannot be read, all processes of services are
// ended, and the services are started again.
func (p *PID1) newSupervisor(earlier *handover.State) (supervisor, error) {
	tree, err := cgroup.Open(cgroup.Root)
	if err != nil {
		p.log.Warn("services run without cgroups", "error", err)
	}
	cfg := supervise.Config{
		Specs: p.system.Specs, Reaper: p.reaper, Log: p.log, Output: p.kept.file, Cgroups: tree,
		NotifyPath: notifySocket, StopLimit: shutdown.StopLimit, OnState: p.onState, Guard: p.guard,
		Conditions: p.judge.Holds, Load: p.readAgain, Seed: seed(),
	}
	if earlier == nil {
		if p.system.Loaded.Source != "" { // the boot has read config.json
			p.judge.Take(p.system.Loaded)
		}
		if p.ahead != nil {
			cfg.Started = p.ahead.Taken()
		}
		return supervise.New(cfg)
	}
	err = errors.New("the earlier life could not save it")
	if earlier.Supervisor != nil {
		cfg.Saved = earlier.Supervisor
		cfg.Files = earlier.Numbers(handover.Supervisor)
		var s *supervise.Supervisor
		if s, err = supervise.New(cfg); err == nil {
			return s, nil
		}
	}
	p.log.Error("state of the services is lost: all services start again", "error", err)
	shutdown.KillAll(p.log)
	if err := p.system.LoadServices(); err != nil {
		p.log.Warn("service files are bad", "error", err)
	}
	cfg.Specs, cfg.Saved, cfg.Files = p.system.Specs, nil, nil
	return supervise.New(cfg)
}

// readAgain reads the service files for a rescan, and config.json for their conditions.
func (p *PID1) readAgain() ([]spec.Spec, []error) {
	p.judge.Learn()
	return boot.Services()
}

// onState is called from the supervisor's loop.
func (p *PID1) onState(name, state string) {
	if name == engine && state == "up" {
		p.mark(bootreport.MilestoneEngine, boottime.Now())
	}
}

// pipes keeps the log pipe of each service open as long as PID 1 lives, so that no line in it is lost while logd does
// not run. There is one for each service file.
type pipes struct {
	mu   sync.Mutex // guards open
	open map[string]*os.File
}

func (o *pipes) file(name string) (*os.File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f := o.open[name]; f != nil {
		return f, nil
	}
	if err := fault.Call("log pipe"); err != nil {
		return nil, err
	}
	f, err := pipe.Open(pipe.Dir, pipe.Source{Kind: pipe.Service, Name: name, Stream: pipe.Stdout})
	if err != nil {
		return nil, err
	}
	o.open[name] = f
	return f, nil
}

// all lists the pipes that are open.
func (o *pipes) all() map[string]*os.File {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.open)
}

// seed returns a number that differs from device to device, for the random delays of timers.
func seed() uint32 {
	text, err := plainfile.Read(boot.MachineID, 4<<10)
	if err != nil {
		return 0 // then the delays are those of every other device without a seed
	}
	h := fnv.New32a()
	h.Write(text)
	return h.Sum32()
}
