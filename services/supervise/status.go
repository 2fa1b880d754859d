package supervise

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"resinos/services/pid1"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
)

// Status lists all services, in start order.
func (s *Supervisor) Status(ctx context.Context) ([]pid1.ServiceStatus, error) {
	var list []pid1.ServiceStatus
	err := s.calls.Do(ctx, func() {
		list = make([]pid1.ServiceStatus, len(s.lives))
		for i := range list {
			list[i] = s.status(i, time.Now())
		}
	})
	return list, err
}

func (s *Supervisor) status(i int, at time.Time) pid1.ServiceStatus {
	svc, sp, l := &s.world.Services[i], &s.world.Specs[i], s.lives[i]
	st := pid1.ServiceStatus{
		Name: sp.Name, State: svc.Phase.String(), PID: svc.PID, Since: l.changed,
		Restarts: max(0, svc.Lives-1), Description: sp.Description, Type: string(sp.Type),
		Reason: s.world.Reason(i), Text: l.text,
		Needs: sp.Needs, Wants: sp.Wants, After: sp.After, Conflicts: sp.Conflicts,
		Masked: sp.Masked, Removed: l.removed, Wanted: svc.Wanted, Began: l.began, Ready: l.ready, Demand: demands(sp),
		Clients: len(l.clients), Stored: l.descriptors.Stored(), Failures: svc.Failures, Changed: l.stale,
		Reloads: reloads(sp), Loading: svc.Reloading, Health: health(sp, svc.Phase, l.checks.Failures()),
	}
	if sp.Masked && !svc.Phase.Alive() {
		st.State = "masked"
	}
	if !svc.Broken {
		st.LastExit = svc.Why
	}
	switch {
	case svc.Phase == lifecycle.Backoff:
		st.RetryIn = max(0, svc.Deadline.Sub(at).Seconds())
	case svc.Phase == lifecycle.Armed && !svc.Deadline.IsZero():
		st.NextIn = max(0, svc.Deadline.Sub(at).Seconds())
	}
	return st
}

// demands says in words what starts a service.
func demands(sp *spec.Spec) []string {
	var list []string
	for _, socket := range sp.Listen.Sockets {
		list = append(list, "listen "+socket.String())
	}
	if sp.Timer.AfterBoot > 0 {
		list = append(list, sp.Timer.AfterBoot.String()+" after boot")
	}
	if sp.Timer.Every > 0 {
		list = append(list, "every "+sp.Timer.Every.String())
	}
	for _, path := range sp.WatchPaths {
		list = append(list, "watch "+path)
	}
	return list
}

func reloads(sp *spec.Spec) bool { return sp.ReloadSignal != "" || len(sp.ReloadCommand) > 0 }

func health(sp *spec.Spec, p lifecycle.Phase, sick int) string {
	switch {
	case len(sp.Health.Command) == 0 || p != lifecycle.Up:
		return ""
	case sick == 0:
		return "ok"
	}
	return "failed " + strconv.Itoa(sick) + " of " + strconv.Itoa(sp.Health.Retries)
}

// Ping returns when the loop has done one round.
func (s *Supervisor) Ping(ctx context.Context) error {
	if err := s.calls.Do(ctx, func() {}); err != nil {
		return fmt.Errorf("ping supervisor: %w", err)
	}
	return nil
}
