package operation

import (
	"strconv"
	"time"

	"resinos/services/pid1"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
)

// View is what is known of one service. Times are seconds since the kernel started.
type View struct {
	Spec    *spec.Spec
	Service *lifecycle.Service
	Reason  string  // why it is not up
	Text    string  // its latest STATUS=
	Since   float64 // of its phase
	Began   float64 // of its first life
	Ready   float64 // when it was up for the first time
	Clients int     // processes that serve a connection
	Stored  int     // descriptors that it left with PID 1
	Failed  int     // health checks in a row that failed
	Removed bool    // its file is gone
	Stale   bool    // its file has changed since it was started
}

// Status returns the status of a service at a time.
func Status(v View, at time.Time) pid1.ServiceStatus {
	svc, sp := v.Service, v.Spec
	st := pid1.ServiceStatus{
		Name: sp.Name, State: svc.Phase.String(), PID: svc.PID, Since: v.Since,
		Restarts: max(0, svc.Lives-1), Description: sp.Description, Type: string(sp.Type),
		Reason: v.Reason, Text: v.Text,
		Needs: sp.Needs, Wants: sp.Wants, After: sp.After, Conflicts: sp.Conflicts,
		Masked: sp.Masked, Removed: v.Removed, Wanted: svc.Wanted, Began: v.Began, Ready: v.Ready, Demand: demands(sp),
		Clients: v.Clients, Stored: v.Stored, Failures: svc.Failures, Changed: v.Stale,
		AtBoot:  sp.Start == spec.AtBoot && sp.Demand(),
		Reloads: reloads(sp), Loading: svc.Reloading, Health: health(sp, svc.Phase, v.Failed),
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

// Forgotten is the status of a service whose file was removed, after its stop.
func Forgotten(name string) pid1.ServiceStatus {
	return pid1.ServiceStatus{Name: name, State: pid1.Removed, Removed: true}
}

// demands says in words what starts a service.
func demands(sp *spec.Spec) []string {
	var list []string
	for _, socket := range sp.Listen.Sockets {
		list = append(list, "listen "+socket.String())
	}
	if sp.ListenStored {
		list = append(list, "listen-stored")
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

// health says in words how a service that is up answers its health checks; empty if it has none.
func health(sp *spec.Spec, p lifecycle.Phase, failed int) string {
	switch {
	case len(sp.Health.Command) == 0 || p != lifecycle.Up:
		return ""
	case failed == 0:
		return "ok"
	}
	return "failed " + strconv.Itoa(failed) + " of " + strconv.Itoa(sp.Health.Retries)
}
