package life

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"resinos/init/boot"
	"resinos/init/shutdown"
	"resinos/services/boottime"
	"resinos/services/control"
	"resinos/services/pid1"
)

// handlers are the operations of the control socket: the supervisor's and PID 1's own.
func (p *PID1) handlers(services map[string]control.Handler) map[string]control.Handler {
	all := map[string]control.Handler{}
	maps.Copy(all, services)
	maps.Copy(all, faultHandlers())
	all[pid1.OpBoot] = func(context.Context, json.RawMessage) (any, error) { return p.record.Report(), nil }
	all[pid1.OpPlan] = func(context.Context, json.RawMessage) (any, error) { return boot.Plan(p.system.Inputs), nil }
	all[pid1.OpPing] = func(ctx context.Context, _ json.RawMessage) (any, error) { return nil, p.ping(ctx) }
	all[pid1.OpMilestone] = p.milestoneOp
	all[pid1.OpPower] = p.powerOp
	all[pid1.OpReexec] = p.reexecOp
	return all
}

func (p *PID1) milestoneOp(_ context.Context, args json.RawMessage) (any, error) {
	var m pid1.Milestone
	if err := control.Args(args, &m); err != nil {
		return nil, err
	}
	return nil, p.milestone(m.Name, m.At)
}

// powerOp takes {"action": …, "force": …}. A second request makes the first more urgent; with force, PID 1 does not
// wait for services to stop.
func (p *PID1) powerOp(ctx context.Context, args json.RawMessage) (any, error) {
	var want pid1.Shutdown
	if err := control.Args(args, &want); err != nil {
		return nil, err
	}
	return nil, p.ask(ctx, request{action: want.Action, force: want.Force, why: "osctl " + string(want.Action)})
}

// answerTime is the time that the answer to a request for re-exec has to reach its client.
const answerTime = 50 * time.Millisecond

// reexecOp takes {"reason": …}. It answers first; then PID 1 re-executes itself.
func (p *PID1) reexecOp(_ context.Context, args json.RawMessage) (any, error) {
	var why pid1.Reexec
	if err := control.Args(args, &why); err != nil {
		return nil, err
	}
	if p.supervisor == nil {
		return nil, errNoSupervisor
	}
	if why.Reason == "" {
		why.Reason = "asked for"
	}
	time.AfterFunc(answerTime, func() {
		select {
		case p.reasons <- why.Reason:
		default: // a re-exec is requested already
		}
	})
	return nil, nil
}

// milestone checks a client's milestone before it becomes part of the report and of a console line.
func (p *PID1) milestone(name string, at float64) error {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || name == "" || len(name) > 64 {
		return fmt.Errorf("milestone %.64q: want small letters, digits and _", name)
	}
	when := boottime.Now()
	if at > 0 && at < when.Seconds() { // compared as a float: a Duration cannot hold every number
		when = time.Duration(at * float64(time.Second))
	}
	p.mark(name, when)
	return nil
}

// request is a request for a power action.
type request struct {
	action pid1.Power
	force  bool // do not wait for services to stop
	why    string
	failed bool // the reason is a failure, which the next boot reports
}

// ask passes a request to PID 1's loop. If one waits there already, the new one is dropped.
func (p *PID1) ask(ctx context.Context, r request) error {
	if !shutdown.Known(r.action) {
		return fmt.Errorf("power: action %.20q is not poweroff, reboot or halt", r.action)
	}
	select {
	case p.requests <- r:
	case <-ctx.Done():
		return context.Cause(ctx)
	default:
	}
	return nil
}
