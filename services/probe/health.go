package probe

import (
	"context"
	"fmt"
	"time"

	"resinos/services/spec"
)

// Health runs h.Command every h.Every, the first time after one such pause, until it has failed h.Retries times in a
// row; the error reports that and wraps the last failure. If ctx ends first it returns ctx's cause. tell, which may be
// nil, is called in Health's goroutine after each failure with the number in a row, and with 0 and nil after the first
// success that follows. A zero Every, Timeout or Retries means its default.
func Health(ctx context.Context, h spec.Health, run Run, tell func(failures int, err error)) error {
	if h.Every <= 0 {
		h.Every = spec.DefaultHealthEvery
	}
	if h.Timeout <= 0 {
		h.Timeout = spec.DefaultHealthTimeout
	}
	if h.Retries <= 0 {
		h.Retries = spec.DefaultHealthRetries
	}
	if tell == nil {
		tell = func(int, error) {}
	}
	return watch(ctx, h, func(ctx context.Context) error { return run(ctx, h.Command) }, tell)
}

func watch(ctx context.Context, h spec.Health, ask func(context.Context) error, tell func(int, error)) error {
	next := time.NewTimer(h.Every)
	defer next.Stop()
	for failures := 0; ; next.Reset(h.Every) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-next.C:
		}
		err := bounded(ctx, h.Timeout, ask)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx) // what ended the run is not a failure of the service
		case err == nil && failures > 0:
			failures = 0
			tell(0, nil)
		case err != nil:
			failures++
			tell(failures, err)
			if failures >= h.Retries {
				return fmt.Errorf("check health: failed %d times in a row: %w", failures, err)
			}
		}
	}
}
