package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/confine"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise/handle"
	"resinos/services/supervise/lifecycle"
)

// ErrFrozen is what Run returns after Freeze.
var ErrFrozen = errors.New("supervisor is frozen")

// Freeze makes Run return ErrFrozen between two inputs, and leaves every service as it is, so that Save returns a
// complete state afterwards. It returns just before Run does.
func (s *Supervisor) Freeze(ctx context.Context) error {
	if err := s.calls.Do(ctx, func() { close(s.freeze) }); err != nil {
		return fmt.Errorf("freeze supervisor: %w", err)
	}
	return nil
}

// Run starts all services and supervises them until ctx is cancelled; then it stops them in reverse order and returns
// nil when none is left. If one cannot be stopped within the limit, it kills all processes, and the error names the
// services that were left. It may be called once.
func (s *Supervisor) Run(ctx context.Context) error {
	defer s.calls.End()
	s.cfg.Reaper.OnOrphan(func(proc.Status) { s.exits.Mark() })
	defer s.cfg.Reaper.OnOrphan(nil)
	defer func() { s.alarm.Stop() }()
	defer s.startHelpers()()
	if s.resumed {
		s.resume()
	} else {
		s.do(s.world.Begin(time.Now()))
	}
	return s.loop(ctx)
}

// loop handles one input after the other. Nothing in it blocks.
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
			s.takeNotes()
			s.takeExits()
		case n := <-s.inbox.C():
			s.note(n)
		case do := <-s.calls.C():
			do()
		case f := <-s.demand.Fired():
			s.paths.Disarm(f.ID) // both watch for one service, and one demand is enough
			s.fired(f)
		case f := <-s.paths.Fired():
			s.demand.Disarm(f.ID) // the same
			s.fired(f)
		case <-s.alarm.C():
			s.handleDeadlines(time.Now())
		case <-limit:
			return s.killRemaining()
		}
		s.forgetRemoved()
		if s.world.Ending && len(s.world.Alive()) == 0 {
			return nil
		}
	}
}

// startHelpers starts the goroutines beside the loop. The returned function ends them.
func (s *Supervisor) startHelpers() func() {
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
	// Not in helpers: a look at a path on a mount that hangs may last for ever.
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

// takeExits handles the ends of processes that the reaper has reported.
func (s *Supervisor) takeExits() {
	exits, orphaned := s.exits.Take()
	for _, x := range exits {
		switch h := x.Handle; {
		case s.byID[h.ID] != h: // the service was forgotten, and another has its number
		case x.Client:
			s.connectionEnded(h, x.Status.Pid)
		case s.world.Services[h.Num].PID == x.Status.Pid:
			s.feed(h.Num, lifecycle.Input{Event: lifecycle.Exit, Status: x.Status, Why: s.reasonOf(x)})
		}
		// Otherwise it was the main process until the service named another one.
	}
	if orphaned {
		s.sweepAll()
	}
}

// reasonOf says in words what is known about the end of a main process beside its status.
func (s *Supervisor) reasonOf(x handle.Exit) string {
	if text := confine.ExitText(exitCode(x.Status)); text != "" {
		return text
	}
	if !x.Status.OK() && s.groups.OOMKills(s.name(x.Handle.Num)) > x.Handle.OOMs {
		return "for want of memory"
	}
	return ""
}

// exitCode is the exit code of a process that ended by itself, -1 for any other.
func exitCode(st proc.Status) int {
	if st.Wait.Exited() {
		return st.Wait.ExitStatus()
	}
	return -1
}

// handleDeadlines handles every deadline that is over.
func (s *Supervisor) handleDeadlines(now time.Time) {
	s.alarm.Rang()
	for i, ok := s.alarm.Due(now); ok; i, ok = s.alarm.Due(now) {
		s.do(s.world.Feed(now, i, lifecycle.Input{Event: lifecycle.Timer}))
	}
	if s.groups.Sweeps.Due(now) {
		s.sweepAll()
	}
	s.alarm.Set(s.groups.Sweeps.Next())
}

// killRemaining ends a shutdown that takes too long.
func (s *Supervisor) killRemaining() error {
	var names []string
	for _, i := range s.world.Alive() {
		names = append(names, s.world.Graph.Names[i])
		if p := s.handles[i].Process; p != nil && s.world.Services[i].PID != 0 {
			p.SignalGroup(unix.SIGKILL) // best effort: with cgroups, KillAll below kills everything
		}
	}
	slices.Sort(names)
	err := fmt.Errorf("stop services: not within %s: %s", s.cfg.StopLimit, strings.Join(names, ", "))
	return errors.Join(err, s.groups.KillAll())
}
