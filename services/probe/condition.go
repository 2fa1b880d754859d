package probe

import (
	"context"
	"errors"
	"os"
	"time"

	"resinos/services/spec"
)

// ConditionLimit is how long the conditions of a service may take to be judged.
const ConditionLimit = 10 * time.Second

var errUnanswered = errors.New("its conditions cannot be judged, there is no answer; does a path in them lie on a mount that hangs?")

// Conditions asks judge whether all conditions hold, and returns what it says of the first that does not. A path may lie on a mount that
// hangs, and the kernel then lets nobody end the wait. So who looks is a goroutine, begun by start and left behind when there is no
// answer in time, which is the error, or ctx ends. looking is a channel of capacity 1 that is the service's own: nobody else looks
// for it until that one is back.
func Conditions(ctx context.Context, looking chan struct{}, conditions []spec.Condition, judge func(spec.Condition) (bool, string), start func(look func())) (why string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, ConditionLimit, errUnanswered)
	defer cancel()
	found := make(chan string, 1)
	start(func() {
		select {
		case looking <- struct{}{}:
		case <-ctx.Done():
			return
		}
		defer func() { <-looking }()
		for _, c := range conditions {
			if holds, why := judge(c); !holds {
				found <- why
				return
			}
		}
		found <- ""
	})
	select {
	case why := <-found:
		return why, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// Path judges a condition that needs no knowledge of the device, which are those on paths: the other kinds do not hold.
func Path(c spec.Condition) (holds bool, why string) {
	if c.Kind == spec.PathCondition {
		_, err := os.Lstat(c.Value)
		holds = err == nil
	}
	if holds == c.Not {
		return false, c.String() + " does not hold"
	}
	return true, ""
}
