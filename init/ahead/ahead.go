// Package ahead starts the splash while PID 1 still carries out the boot, long before the supervisor runs, because the
// owner looks at the screen. It loads the driver of the display, if the splash needs one, and starts the process of the
// service, which the supervisor takes over. It waits for nothing and delays nothing. Read Start first.
package ahead

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"resinos/init/walk"
	"resinos/services/boottime"
	"resinos/services/cgroup"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/spec/precondition"
	"resinos/services/supervise"
	"resinos/services/supervise/command"
	"resinos/services/supervise/descriptor"
	"resinos/services/supervise/processes"
	"resinos/services/supervise/starter"
	"resinos/services/sysctl"
)

// Service is the service that draws the owner's logo.
const Service = "splash"

// Start starts the service once. All fields are set before Begin and belong to it afterwards.
type Start struct {
	Log     *slog.Logger
	Reaper  *proc.Reaper                                          // of this process
	Holds   func(precondition.Condition) (holds bool, why string) // judges the conditions of the service
	Output  func(service string) (*os.File, error)                // as of the supervisor
	Screen  string                                                // the device that the service draws on
	Display func() bool                                           // whether there is one; its driver may be missing
	Drivers func() error                                          // loads the drivers of displays
	Ask     func(context.Context) error                           // has the supervisor start the service again
	Go      func(name string, run func())                         // runs a goroutine

	mu      sync.Mutex         // guards what follows
	started *supervise.Started // the process, until it is taken
	taken   bool
}

// first is the weight of a service that comes before everything else.
const first = 10000

// ownWeight is where PID 1 has its share of the processor. While the process runs, PID 1 has a small one.
const (
	ownWeight   = "/sys/fs/cgroup/init/cpu.weight"
	usualWeight = "100"
	smallWeight = "5"
)

// patience is how long PID 1 has its small share, at most, and how long a request to the supervisor may take.
const patience = 5 * time.Second

// Begin starts the service if all its conditions hold; of a screen it is enough that there is a display. A service
// that its owner has masked, or given a smaller weight, is left to the supervisor.
func (s *Start) Begin(sp spec.Spec) {
	if sp.Masked || sp.Start != spec.AtBoot || sp.Limits.BootCPUWeight < first || !s.hold(sp) {
		return
	}
	lacks := !there(s.Screen)
	if lacks && !s.Display() {
		return
	}
	s.Go("splash ahead", func() {
		if err := walk.Shielded(func() error { return s.run(&sp, lacks) }); err != nil {
			s.Log.Warn("no splash ahead of the services", "error", err)
		}
	})
}

// hold judges the conditions of the service, but for that of the screen.
func (s *Start) hold(sp spec.Spec) bool {
	for _, c := range sp.Conditions {
		if c.Kind == precondition.Path && c.Value == s.Screen && !c.Not {
			continue
		}
		if holds, _ := s.Holds(c); !holds {
			return false
		}
	}
	return true
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// run loads the driver in a thread of its own, ahead of the boot, and starts the process.
func (s *Start) run(sp *spec.Spec, lacks bool) error {
	if lacks {
		if err := urgently(s.Drivers); err != nil {
			return err
		}
		if !there(s.Screen) {
			return nil // devd sees the screen, should it come later
		}
	}
	s.mu.Lock()
	if s.taken { // the supervisor has looked for the screen before it was there
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return s.Ask(ctx)
	}
	pid, err := s.start(sp)
	s.mu.Unlock()
	if err == nil {
		giveWay(pid)
	}
	return err
}

// urgently runs do before everything else that waits for a processor in this cgroup.
func urgently(do func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()                          // never unlocked: the thread ends with the goroutine
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20) // of this thread; without it the driver only comes later
		err = walk.Shielded(do)
	}()
	<-done
	return err
}

// start starts the process as the supervisor would. The lock is held.
func (s *Start) start(sp *spec.Spec) (pid int, err error) {
	tree, err := cgroup.Open(cgroup.Root)
	if err != nil {
		s.Log.Warn("splash runs without a cgroup", "error", err)
	}
	by := starter.Starter{
		Maker:  command.Maker{Launcher: "/usr/sbin/init", Output: s.Output, Log: s.Log},
		Groups: processes.New(tree, s.Log), Reaper: s.Reaper, Log: s.Log,
	}
	started := &supervise.Started{Began: boottime.Now()}
	if started.Process, _, err = by.Main(sp, &descriptor.Set{}, false, started.Exit); err != nil {
		return 0, err
	}
	s.started = started
	return started.Process.Pid, nil
}

// giveWay gives PID 1 a small share of the processor until the process has ended. Otherwise the rest of the boot would
// have half of it.
func giveWay(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // the logo only comes later
	}
	defer unix.Close(fd)
	defer Resume()
	_ = sysctl.Write(ownWeight, smallWeight) // without cgroups the process is one among equals
	end := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for limit := boottime.Now() + patience; boottime.Now() < limit; {
		if _, err := unix.Poll(end, int((limit-boottime.Now()).Milliseconds())+1); err != unix.EINTR {
			return
		}
	}
}

// Resume gives PID 1 its usual share of the processor. A re-executed PID 1 calls it, because its earlier life may have
// had the small one.
func Resume() { _ = sysctl.Write(ownWeight, usualWeight) }

// Taken returns the process that was started, if there is one, for the supervisor; from now on none is started.
func (s *Start) Taken() map[string]*supervise.Started {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = true
	if s.started == nil {
		return nil
	}
	return map[string]*supervise.Started{Service: s.started}
}
