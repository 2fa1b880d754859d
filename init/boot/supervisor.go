package boot

import (
	"context"
	"os"
	"sync"

	"resinos/services/cgroup"
	"resinos/services/control"
	"resinos/services/logpipe"
	"resinos/services/proc"
	"resinos/services/supervise"
)

// notifySocket is where services report that they are ready.
const notifySocket = runtimeDir + "/notify.sock"

// engine is the service whose readiness is a milestone.
const engine = "containerd"

// startServices starts the supervisor on what the step "load services" found, and returns its operations. daemons ends when
// all services are stopped.
func (p *PID1) startServices(ctx context.Context, reaper *proc.Reaper, daemons *sync.WaitGroup) map[string]control.Handler {
	kept := &pipes{open: map[string]*os.File{}}
	tree, err := cgroup.Open(cgroup.Root)
	if err != nil {
		p.log.Warn("services run without cgroups", "error", err)
	}
	supervisor, err := supervise.New(supervise.Config{
		Specs: p.system.specs, Reaper: reaper, Log: p.log, Output: kept.file, Cgroups: tree,
		NotifyPath: notifySocket, StopLimit: stopPatience, OnState: p.onState,
	})
	if err != nil {
		p.log.Error("no service runs", "error", err)
		return nil
	}
	p.mark(MilestoneServices, Now())
	daemons.Go(func() {
		if err := guard(func() error { return supervisor.Run(ctx) }); err != nil {
			p.log.Error("supervisor ended", "error", err)
		}
		if ctx.Err() == nil {
			// It may run only once, and a device that supervises nothing is dead: the way out is a reboot.
			p.log.Error("supervisor is gone: rebooting")
			_ = request(context.Background(), p.requests, Reboot) // Reboot is known, and the loop takes one request
		}
	})
	return supervisor.Handlers()
}

// onState is called from the supervisor's loop.
func (p *PID1) onState(name, state string) {
	if name == engine && state == "up" {
		p.mark(MilestoneEngine, Now())
	}
}

// pipes keeps the log pipe of each service open as long as PID 1 lives, so that no line in it is lost while logd is
// away. There are as many as there are service files.
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
	f, err := logpipe.Open(logpipe.Dir, logpipe.Source{Kind: logpipe.Service, Name: name, Stream: logpipe.Stdout})
	if err != nil {
		return nil, err
	}
	o.open[name] = f
	return f, nil
}
