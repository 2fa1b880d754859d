package supervise

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/notify"
	"resinos/services/proc"
	"resinos/services/spec"
)

// do carries out actions in order. What follows from them at once (a process that runs, a group
// that is empty) is fed back and its actions join the end of the line.
func (s *Supervisor) do(actions []action) {
	line := slices.Clone(actions) // feed reuses its slice
	s.book()
	for len(line) > 0 {
		a := line[0]
		line = line[1:]
		in, answered := s.act(a)
		if !answered {
			continue
		}
		line = append(line, s.world.feed(time.Now(), a.svc, in)...)
		s.book()
	}
	s.answer()
}

func (s *Supervisor) act(a action) (input, bool) {
	switch a.act {
	case fork:
		return s.fork(a.svc), true
	case term:
		s.log.Debug("service asked to stop", "service", s.name(a.svc))
		if err := s.signal(a.svc, unix.SIGTERM); err != nil {
			s.log.Warn("service not signalled", "service", s.name(a.svc), "error", err)
		}
	case kill:
		s.kill(a.svc)
	case sweep:
		return input{empty: true}, s.sweep(a.svc)
	case remove:
		// A delegated subtree is not ours to tidy, and at the shutdown all of it is thrown away.
		if s.cfg.Cgroups != nil && !s.world.ending && !s.world.specs[a.svc].CgroupDelegate {
			_ = s.cfg.Cgroups.Remove(s.name(a.svc)) // the next start takes it as it is
		}
	}
	return input{}, false
}

func (s *Supervisor) name(i int) string { return s.world.graph.Names[i] }

var errOvertaken = errors.New("not started: asked to stop meanwhile")

// fork starts the process of service i and tells how it went.
func (s *Supervisor) fork(i int) input {
	if s.world.svcs[i].phase != starting {
		return input{event: exit, err: errOvertaken}
	}
	p, err := s.start(i)
	if err != nil {
		s.log.Error("service not started", "service", s.name(i), "error", err)
		return input{event: exit, err: err}
	}
	s.lives[i].process, s.lives[i].text = p, ""
	if p.Degraded != nil {
		s.log.Warn("service started with less", "service", s.name(i), "pid", p.Pid, "error", p.Degraded)
	}
	return input{began: true, pid: p.Pid}
}

func (s *Supervisor) start(i int) (*proc.Process, error) {
	sp := &s.world.specs[i]
	c := proc.Command{
		Path: sp.Command[0], Args: sp.Command, Dir: sp.WorkingDirectory, OOMScore: sp.OOMScore,
		Env:    s.environment(sp),
		OnExit: func(st proc.Status) { s.mail.exit(i, st) },
	}
	if sp.Log == spec.Console {
		console, err := openConsole(s.cfg.ConsolePath)
		if err != nil {
			s.log.Warn("service without console", "service", sp.Name, "error", err)
		} else {
			defer console.Close() // the child has its own by then
			c.Stdin, c.Stdout, c.Stderr = console, console, console
		}
	} else if s.cfg.Output != nil {
		out, err := s.cfg.Output(sp.Name)
		if err != nil {
			s.log.Warn("service without log", "service", sp.Name, "error", err)
		} else {
			c.Stdout, c.Stderr = out, out
		}
	}
	if s.cfg.Cgroups != nil {
		born := s.cfg.Cgroups.Create
		if sp.KillMode == spec.Process {
			born = s.cfg.Cgroups.Join // those it left behind live on there
		}
		dir, err := born(s.leaf(i))
		if err != nil {
			return nil, err
		}
		defer dir.Close() // only looked at
		c.Cgroup = dir
	}
	return s.cfg.Reaper.Start(c)
}

// leaf names the group in which the main process of i is born. A delegated service gets a leaf of
// its own in its group: cgroup v2 lets a group with controllers for its children hold no process,
// so the engine could neither make limited groups below its own nor be started again beside them.
func (s *Supervisor) leaf(i int) string {
	if s.world.specs[i].CgroupDelegate {
		return s.name(i) + "/main"
	}
	return s.name(i)
}

// openConsole opens a terminal without making it ours and without waiting for a carrier.
func openConsole(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, false) // the child shall block as programs expect
	}
	if err != nil {
		return nil, fmt.Errorf("open console %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func (s *Supervisor) environment(sp *spec.Spec) []string {
	env := []string{"PATH=/usr/sbin:/usr/bin", "HOME=/root"}
	if sp.Type == spec.Notify {
		env = append(env, notify.Variable+"="+s.cfg.NotifyPath)
	}
	for _, name := range slices.Sorted(maps.Keys(sp.Environment)) {
		prefix := name + "="
		env = slices.DeleteFunc(env, func(e string) bool { return len(e) >= len(prefix) && e[:len(prefix)] == prefix })
		env = append(env, prefix+sp.Environment[name])
	}
	return env
}

func (s *Supervisor) signal(i int, sig unix.Signal) error {
	p := s.lives[i].process
	if p == nil || s.world.svcs[i].pid == 0 {
		return os.ErrProcessDone
	}
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err // an end that is on its way to us is what was wanted
	}
	return nil
}

func (s *Supervisor) kill(i int) {
	s.log.Warn("service killed", "service", s.name(i), "pid", s.world.svcs[i].pid)
	var err error
	switch {
	case s.world.specs[i].KillMode == spec.Process:
	case s.cfg.Cgroups != nil:
		err = s.cfg.Cgroups.Kill(s.name(i))
	case s.lives[i].process != nil:
		err = s.lives[i].process.SignalGroup(unix.SIGKILL)
	}
	if err = errors.Join(err, s.signal(i, unix.SIGKILL)); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.log.Error("service not killed", "service", s.name(i), "error", err)
	}
}

// sweep kills what the dead main process of i left behind, and reports whether nothing is left.
// What a service with kill mode process left behind is meant to live on, until the shutdown.
func (s *Supervisor) sweep(i int) bool {
	if s.world.specs[i].KillMode == spec.Process && !s.world.ending {
		return true
	}
	if s.cfg.Cgroups == nil {
		if p := s.lives[i].process; p != nil {
			p.KillLeftovers()
		}
		return true
	}
	populated, err := s.cfg.Cgroups.Populated(s.name(i))
	if err == nil && populated {
		if !s.sweeps.add(i, time.Now()) {
			return false // killed before; its death is on its way
		}
		s.log.Info("service left processes", "service", s.name(i))
		err = s.cfg.Cgroups.Kill(s.name(i))
		s.alarm.set(s.sweeps.next)
	}
	if err != nil {
		s.log.Error("service not swept", "service", s.name(i), "error", err)
		return true
	}
	return !populated
}

// sweepAgain looks at every group that is being emptied.
func (s *Supervisor) sweepAgain() {
	for _, i := range s.sweeps.waiting() {
		if s.world.svcs[i].phase != clearing {
			s.sweeps.drop(i)
			continue
		}
		if s.sweep(i) {
			s.sweeps.drop(i)
			s.do(s.world.feed(time.Now(), i, input{empty: true}))
		}
	}
	s.sweeps.again(time.Now())
	s.alarm.set(s.sweeps.next)
}

// book does the paperwork of every service that moved: its deadline, the log, the hook.
func (s *Supervisor) book() {
	for _, w := range s.asked {
		w.dirty = w.dirty || len(s.world.changed) > 0
	}
	for _, i := range s.world.changed {
		svc, life := &s.world.svcs[i], &s.lives[i]
		s.alarm.plan(i, svc.deadline)
		if svc.phase == life.shown {
			continue
		}
		life.shown, life.changed = svc.phase, sinceKernelStart()
		s.tell(i)
	}
	s.world.changed = s.world.changed[:0]
	s.alarm.set(s.sweeps.next)
}

// tell logs the changes that a person may want to know of.
func (s *Supervisor) tell(i int) {
	svc, name := &s.world.svcs[i], s.name(i)
	switch svc.phase {
	case up:
		s.log.Info("service up", "service", name, "pid", svc.pid)
	case clearing:
		if svc.going {
			s.log.Info("service exited", "service", name, "status", svc.why)
		} else {
			s.log.Warn("service exited", "service", name, "status", svc.why)
		}
	case backoff:
		s.log.Warn("service waits before restart", "service", name, "pause", time.Until(svc.deadline), "failures", svc.failures)
	case failed:
		s.log.Error("service given up", "service", name, "error", svc.why)
	case down:
		s.log.Info("service down", "service", name)
	default:
		s.log.Debug("service state", "service", name, "state", svc.phase.String())
	}
	if s.cfg.OnState != nil {
		s.cfg.OnState(name, svc.phase.String())
	}
}

// sinceKernelStart is CLOCK_BOOTTIME in seconds.
func sinceKernelStart() float64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // the clock exists since Linux 2.6.39
	}
	return time.Duration(ts.Nano()).Seconds()
}
