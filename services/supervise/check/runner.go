// Package check runs the checks of services beside the supervisor's loop and passes the results to it: whether a
// service may start, whether it is up, and whether it is healthy. The supervisor decides what a result leads to. Read
// Checks first.
package check

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"resinos/services/guard"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/spec/precondition"
	"resinos/services/supervise/loop"
)

// Runner runs the checks of all services, each in a goroutine of its own.
type Runner struct {
	Calls *loop.Calls
	Guard *guard.Guard
	Log   *slog.Logger
	// Holds judges one condition; why says in words what does not hold. It may block.
	Holds func(c precondition.Condition) (holds bool, why string)
	// Start starts one more process of a service. Any goroutine may call it.
	Start func(sp *spec.Spec, argv []string, onExit func(proc.Status)) (*proc.Process, error)

	ctx     context.Context
	running sync.WaitGroup
}

// Begin sets the context of all checks. It must be called before the first.
func (r *Runner) Begin(ctx context.Context) { r.ctx = ctx }

// Wait returns when all checks have ended, after the context has.
func (r *Runner) Wait() { r.running.Wait() }

// run calls do in a goroutine. The caller must call cancel, which ends the context of do: run itself must not, because
// the loop still has to see whether a result that do has posted counts.
func (r *Runner) run(name string, do func(context.Context)) (cancel func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	r.running.Add(1)
	r.Guard.Go(name, func() {
		defer r.running.Done()
		do(ctx)
	})
	return cancel
}

// Command returns a function that runs a command as one more process of the service and waits for its end. If its
// context ends first, it kills the process.
func (r *Runner) Command(sp *spec.Spec) func(ctx context.Context, argv []string) error {
	return func(ctx context.Context, argv []string) error {
		ended := make(chan proc.Status, 1)
		p, err := r.Start(sp, argv, func(st proc.Status) { ended <- st })
		if err != nil {
			return err
		}
		select {
		case st := <-ended:
			return result(argv, st)
		case <-ctx.Done():
		}
		_ = p.Signal(9) // one that has ended meanwhile is as good
		<-ended
		return context.Cause(ctx)
	}
}

func result(argv []string, st proc.Status) error {
	if st.OK() {
		return nil
	}
	return fmt.Errorf("run %s: %s", argv[0], st)
}
