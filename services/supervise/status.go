package supervise

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"resinos/services/spec"
)

// ServiceStatus is one service as the status operation shows it. Moments are seconds since the
// kernel started.
type ServiceStatus struct {
	Name        string   `json:"name"`
	State       string   `json:"state"`
	PID         int      `json:"pid"`
	Since       float64  `json:"since"`    // of the state
	Restarts    int      `json:"restarts"` // starts after the first
	Description string   `json:"description,omitempty"`
	Type        string   `json:"type"`
	Reason      string   `json:"reason,omitempty"` // why it is not up
	Text        string   `json:"text,omitempty"`   // what it says of itself (STATUS=)
	LastExit    string   `json:"last_exit,omitempty"`
	RetryIn     float64  `json:"retry_in,omitempty"` // seconds until the next try, in state backoff
	Needs       []string `json:"needs,omitempty"`
	Wants       []string `json:"wants,omitempty"`
	After       []string `json:"after,omitempty"`
	Conflicts   []string `json:"conflicts,omitempty"`

	Masked   bool     `json:"masked,omitempty"`
	Removed  bool     `json:"removed,omitempty"`   // its file is gone: it is stopped and then forgotten
	Wanted   bool     `json:"wanted"`              // somebody asks for it
	Began    float64  `json:"began,omitempty"`     // of the first life: its program was started …
	Ready    float64  `json:"ready,omitempty"`     // … and it was up
	Demand   []string `json:"demand,omitempty"`    // what starts it: listen tcp::80, every 1h0m0s, watch /etc/x
	NextIn   float64  `json:"next_in,omitempty"`   // seconds until its timer starts it, in state armed
	Clients  int      `json:"clients,omitempty"`   // connections being served, with listen-each
	Stored   int      `json:"stored,omitempty"`    // descriptors it left with us
	Health   string   `json:"health,omitempty"`    // ok, or how often it failed in a row
	Failures int      `json:"failures,omitempty"`  // lives lost in a row without a stable one
	Changed  bool     `json:"changed,omitempty"`   // its file has changed since it was started
	Reloads  bool     `json:"reloads,omitempty"`   // it can be reloaded
	Loading  bool     `json:"reloading,omitempty"` // it said RELOADING=1 and not yet READY=1
}

// Removed is the state of a service whose file is gone and that has stopped: only who asked for the stop hears of it.
const Removed = "removed"

// Shown is one service as the show operation tells it: all that its files say, and all that runs.
type Shown struct {
	Status ServiceStatus `json:"status"`
	Spec   spec.Spec     `json:"spec"`
}

// Rescanned is what the rescan operation found.
type Rescanned struct {
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"` // stopped, then forgotten
	Changed []string `json:"changed,omitempty"` // in force from their next start on
	Faults  []string `json:"faults,omitempty"`  // of files that are not in force
}

// Status lists all services, in start order.
func (s *Supervisor) Status(ctx context.Context) ([]ServiceStatus, error) {
	var list []ServiceStatus
	err := s.inLoop(ctx, func() {
		list = make([]ServiceStatus, len(s.lives))
		for i := range list {
			list[i] = s.status(i, time.Now())
		}
	})
	return list, err
}

func (s *Supervisor) status(i int, at time.Time) ServiceStatus {
	svc, sp, l := &s.world.svcs[i], &s.world.specs[i], s.lives[i]
	st := ServiceStatus{
		Name: sp.Name, State: svc.phase.String(), PID: svc.pid, Since: l.changed,
		Restarts: max(0, svc.lives-1), Description: sp.Description, Type: string(sp.Type),
		Reason: s.world.reason(i), Text: l.text,
		Needs: sp.Needs, Wants: sp.Wants, After: sp.After, Conflicts: sp.Conflicts,
		Masked: sp.Masked, Removed: l.removed, Wanted: svc.wanted, Began: l.began, Ready: l.ready, Demand: demands(sp),
		Clients: len(l.clients), Stored: len(l.stored), Failures: svc.failures, Changed: l.stale,
		Reloads: reloads(sp), Loading: svc.reloading, Health: health(sp, svc.phase, l.sick),
	}
	if sp.Masked && !svc.phase.alive() {
		st.State = "masked"
	}
	if !svc.broken {
		st.LastExit = svc.why
	}
	switch {
	case svc.phase == backoff:
		st.RetryIn = max(0, svc.deadline.Sub(at).Seconds())
	case svc.phase == armed && !svc.deadline.IsZero():
		st.NextIn = max(0, svc.deadline.Sub(at).Seconds())
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

func health(sp *spec.Spec, p phase, sick int) string {
	switch {
	case len(sp.Health.Command) == 0 || p != up:
		return ""
	case sick == 0:
		return "ok"
	}
	return "failed " + strconv.Itoa(sick) + " of " + strconv.Itoa(sp.Health.Retries)
}

// Ping returns when the loop has done one round.
func (s *Supervisor) Ping(ctx context.Context) error {
	if err := s.inLoop(ctx, func() {}); err != nil {
		return fmt.Errorf("ping supervisor: %w", err)
	}
	return nil
}
