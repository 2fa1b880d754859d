package boot

import (
	"fmt"
	"log/slog"
	"os"

	"resinos/bsp/watchdog"
	"resinos/init/console"
	"resinos/init/lastboot"
	"resinos/init/partition"
	"resinos/init/walk"
	"resinos/mounts/attach"
	"resinos/services/bootreport"
	"resinos/services/config"
	"resinos/services/log/line"
	"resinos/services/log/pipe"
	"resinos/services/spec"
)

// Environment holds what the steps use.
type Environment struct {
	Log     *slog.Logger
	Out     *line.Handler // of Log
	Record  *bootreport.Record
	Verbose bool                             // the console shows PID 1's log
	Modules func() (partition.Loader, error) // opens the loader; called only when a module is needed
	// Splash begins to show the splash beside the boot, if all its conditions hold. It may be nil.
	Splash func(spec.Spec, config.Loaded)
}

// System is what the steps find out about the device, and the resources that they leave to PID 1.
type System struct {
	Inputs
	Specs    []spec.Spec      // of the services; whoever starts them may take them
	Loaded   config.Loaded    // the file that Config is from; its Source is empty until it is read
	Pipe     *os.File         // PID 1's log pipe; nil: there is none
	Watchdog *watchdog.Timer  // nil: the board has none
	Marking  lastboot.Marking // the marker of this boot

	env      Environment
	mounted  []attach.Mount  // the mounts at the beginning of the boot
	named    error           // why the host name could not be set
	traces   lastboot.Traces // of the last boot
	attacher partition.Attacher
}

// New returns the system before its first step, or with the inputs that an earlier life of PID 1 has saved.
func New(env Environment, in Inputs) *System {
	return &System{Inputs: in, env: env, attacher: partition.Attacher{Log: env.Log, Modules: env.Modules}}
}

// Boot carries out all steps, in order. No step is fatal: the error lists what failed.
func (s *System) Boot() error {
	return walk.Walker{Stage: bootreport.StageRoot, Record: s.env.Record, Log: s.env.Log,
		After: s.feed}.Walk(s.actions())
}

// openLog moves PID 1's lines from the kernel log to the pipe that logd reads. The pipe keeps them until logd runs, and
// stays open as long as PID 1 lives.
func (s *System) openLog() error {
	if err := os.MkdirAll(pipe.Dir, 0o755); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	f, err := pipe.OpenNonblock(pipe.Dir, pipe.Source{Kind: pipe.Service, Name: "init",
		Stream: pipe.Log})
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	s.ResumeLog(f)
	return nil
}

// ResumeLog writes PID 1's lines into the pipe, which an earlier life may have opened.
func (s *System) ResumeLog(f *os.File) {
	s.Pipe = f
	s.env.Out.Redirect(pipe.NewWriter(f), console.Console(s.env.Verbose))
}
