package updater

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"resinos/bsp/bootvars"
	"resinos/bsp/bundle"
	"resinos/bsp/update"
	"resinos/init/updatecontrol"
	"resinos/services/control"
)

// server answers requests, and works on one installation at a time. An installation goes on when its client is gone.
type server struct {
	device  *device
	install *installation
	used    chan struct{} // a request has come
	work    sync.WaitGroup
	ctx     context.Context // ends with the process
	log     *slog.Logger

	lookForLocks time.Duration
}

// serve answers on socket until nothing was asked for, and nothing was at work, for so long.
func serve(ctx context.Context, socket *os.File, d *device, idle time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &server{device: d, install: new(installation), used: make(chan struct{}, 1), ctx: ctx, log: d.log,
		lookForLocks: lookForLocks}
	var watch sync.WaitGroup
	watch.Go(func() { s.watchIdle(ctx, idle, cancel) })
	err := control.Server{Socket: socket, Handlers: s.handlers(), Log: d.log}.Run(ctx)
	cancel(nil)
	watch.Wait()
	s.work.Wait()
	if errors.Is(err, errIdle) {
		return nil
	}
	return err
}

var errIdle = errors.New("nothing to do")

func (s *server) watchIdle(ctx context.Context, idle time.Duration, end context.CancelCauseFunc) {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.used:
		case <-timer.C:
			if _, running := s.install.now(); !running {
				end(errIdle)
				return
			}
		}
		timer.Reset(idle)
	}
}

func (s *server) handlers() map[string]control.Handler {
	return map[string]control.Handler{
		updatecontrol.OpInstall: on(s, s.doInstall),
		updatecontrol.OpProgress: on(s, func(context.Context, struct{}) (any, error) {
			p, _ := s.install.now()
			return p, nil
		}),
		updatecontrol.OpConfirm: on(s, func(ctx context.Context, _ struct{}) (any, error) {
			return nil, s.device.Confirm(ctx, "confirmed by hand")
		}),
		updatecontrol.OpRollBack: on(s, s.doRollBack),
	}
}

// on makes a handler of a function with typed arguments.
func on[T any](s *server, do func(context.Context, T) (any, error)) control.Handler {
	return func(ctx context.Context, args json.RawMessage) (any, error) {
		select {
		case s.used <- struct{}{}:
		default: // it will be seen
		}
		var a T
		if err := control.Args(args, &a); err != nil {
			return nil, err
		}
		return do(ctx, a)
	}
}

func (s *server) doInstall(ctx context.Context, a updatecontrol.Install) (any, error) {
	if err := s.install.take(); err != nil {
		return nil, err
	}
	idle := updatecontrol.Progress{Phase: updatecontrol.Idle}
	// The source is read beyond this request, so it lives as long as the process.
	p, err := s.device.prepare(s.ctx, a)
	if err != nil || a.Plan {
		s.install.end(idle)
		if err == nil {
			err = p.close()
		}
		return p.plan, err
	}
	s.install.set(func(now *updatecontrol.Progress) { now.Version, now.Slot = p.plan.Version, p.plan.Slot })
	s.work.Go(func() { s.carryOut(p, a) })
	return p.plan, nil
}

// carryOut writes the slot, switches and reboots.
func (s *server) carryOut(p prepared, a updatecontrol.Install) {
	s.log.Info("update begins", "version", p.plan.Version, "source", a.Source)
	err := s.device.run(s.ctx, p, func(b bundle.Progress) {
		s.install.set(func(now *updatecontrol.Progress) {
			now.Phase, now.Done, now.Total = updatecontrol.Phase(b.Phase), b.Done, b.Total
			now.Kept, now.Copied, now.Fetched = b.Kept, b.Copied, b.Fetched
		})
	})
	err = errors.Join(err, p.close())
	if err == nil && !a.NoReboot {
		s.log.Info("slot switched", "version", p.plan.Version)
		if s.awaitLocks(s.ctx, a.Override) != nil {
			return // this process ends, and what it has done stays: the next boot tries the slot
		}
	}
	end, _ := s.install.now()
	end.Locks = ""
	end.Phase, end.Reboot = updatecontrol.Done, !a.NoReboot
	if err != nil {
		end.Phase, end.Error, end.Reboot = updatecontrol.Failed, err.Error(), false
		var refused *control.Error
		if errors.As(err, &refused) {
			end.Hint = refused.Hint
		}
		s.log.Error("update failed", "version", p.plan.Version, "error", err)
	}
	s.install.end(end)
	if end.Reboot {
		s.reboot()
	}
}

// reboot lets the client see the end first; it asks twice a second.
func (s *server) reboot() {
	timer := time.NewTimer(2 * time.Second)
	defer timer.Stop()
	select {
	case <-s.ctx.Done():
		return
	case <-timer.C:
	}
	if err := s.device.Reboot(s.ctx); err != nil {
		s.log.Error("no reboot", "error", err)
	}
}

// doRollBack leaves a slot on trial, or goes back to what the idle slot holds.
func (s *server) doRollBack(ctx context.Context, a updatecontrol.RollBack) (any, error) {
	if err := s.install.take(); err != nil {
		return nil, err
	}
	defer s.install.end(updatecontrol.Progress{Phase: updatecontrol.Idle})
	p, err := s.device.rollBack(ctx, a.Plan)
	if err == nil && !a.Plan && !a.NoReboot && p.Slot != string(s.device.booted) {
		s.work.Go(s.reboot)
	}
	return p, err
}

// rollBack writes what has the next boot start the other slot, and says what that is.
func (d *device) rollBack(ctx context.Context, plan bool) (p updatecontrol.Planned, err error) {
	p = updatecontrol.Planned{From: d.running, Slot: string(d.booted.Other())}
	said := d.warnings(ctx)
	before := d.Look(ctx)
	err = d.change(ctx, func(s update.Settled, loader bootvars.Bootloader) error {
		a, is := s.Record.Current()
		if s.OnTrial {
			p.Steps = []string{fmt.Sprintf("leave slot %s, which is on trial, and go back to slot %s", d.booted,
				d.booted.Other())}
			if plan {
				return nil
			}
			r, v := s.GiveUp(update.ByHand, "somebody went back on purpose", said)
			return d.write(r, loader, v)
		}
		if is && a.State == update.Trial {
			p.Slot = string(d.booted)
			p.Steps = []string{fmt.Sprintf("stay with slot %s: version %s has not been booted yet", d.booted,
				a.Version)}
			if plan {
				return nil
			}
			r, v := s.GiveUp(update.Interrupted, "somebody took it back before it was booted", nil)
			return d.write(r, loader, v)
		}
		back, whole := s.Record.Slots[d.booted.Other()]
		if !whole {
			return &control.Error{Text: fmt.Sprintf("slot %s holds no whole version", d.booted.Other()),
				Hint: "try: osctl update FILE"}
		}
		p.Version = back.Version
		p.Steps = []string{fmt.Sprintf("switch to version %s in slot %s, and go back if it is not confirmed",
			back.Version, p.Slot)}
		if plan {
			return nil
		}
		return d.switchBack(s, loader, back, before)
	})
	return p, err
}

// stepAside makes this process yield to all others: processor by its service file, the disk here. The threads that
// come later inherit it.
func stepAside(log *slog.Logger) {
	const whoProcess, classBestEffort, lowest = 1, 2, 7
	threads, _ := filepath.Glob("/proc/self/task/*") // fails only for a malformed pattern
	for _, dir := range threads {
		id, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(id),
			classBestEffort<<13|lowest); errno != 0 {
			log.Warn("priority of the disk not lowered", "error", errno)
			return
		}
	}
}
