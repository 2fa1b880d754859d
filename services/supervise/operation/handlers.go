// Package operation serves the operations of the control protocol that concern services: it decodes their arguments,
// and puts results, refusals and advice into words. The supervisor carries the operations out. Read Services first.
package operation

import (
	"context"
	"encoding/json"

	"resinos/services/control"
	"resinos/services/pid1"
)

// Services does what the operations ask for; *supervise.Supervisor is one. The methods are those of pid1.Client.
type Services interface {
	Status(ctx context.Context) ([]pid1.ServiceStatus, error)
	Show(ctx context.Context, name string) (pid1.Shown, error)
	// Change returns when the change is done or has visibly failed.
	Change(ctx context.Context, op pid1.Change, name string) (pid1.ServiceStatus, error)
	Kill(ctx context.Context, k pid1.Kill) (pid1.ServiceStatus, error)
	Rescan(ctx context.Context) (pid1.Rescanned, error)
}

// Handlers returns the operations on s, by name.
func Handlers(s Services) map[string]control.Handler {
	list := map[string]control.Handler{
		pid1.OpStatus: func(ctx context.Context, _ json.RawMessage) (any, error) { return s.Status(ctx) },
		pid1.OpRescan: func(ctx context.Context, _ json.RawMessage) (any, error) { return s.Rescan(ctx) },
		pid1.OpShow:   with(func(ctx context.Context, a pid1.Named) (any, error) { return s.Show(ctx, a.Name) }),
		pid1.OpKill:   with(func(ctx context.Context, a pid1.Kill) (any, error) { return s.Kill(ctx, a) }),
	}
	for _, op := range []pid1.Change{pid1.Start, pid1.Stop, pid1.Restart, pid1.Reload} {
		list[string(op)] = with(func(ctx context.Context, a pid1.Named) (any, error) {
			return s.Change(ctx, op, a.Name)
		})
	}
	return list
}

// with makes the handler that decodes its arguments and calls do.
func with[Args any](do func(context.Context, Args) (any, error)) control.Handler {
	return func(ctx context.Context, text json.RawMessage) (any, error) {
		var a Args
		if err := control.Args(text, &a); err != nil {
			return nil, err
		}
		return do(ctx, a)
	}
}
