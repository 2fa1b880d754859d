package probe

import (
	"context"
	"errors"
	"os"
	"resinos/services/spec/precondition"
	"time"
)

// ConditionLimit is the longest time for checking the conditions of a service.
const ConditionLimit = 10 * time.Second

var errUnanswered = errors.New("its conditions cannot be judged, there is no answer; does a path in them lie on a " +
	"mount that hangs?")

// Conditions calls judge for each condition, and returns the reason of the first that does not hold. A path may be on a
// mount that hangs, and then the kernel does not let anybody end the wait. So a goroutine checks, which start begins
// and which is left behind if it does not answer in time (then Conditions returns an error) or ctx ends. looking is a
// channel of capacity 1 for each service: nobody else checks for the service until that goroutine is back.
func Conditions(ctx context.Context, looking chan struct{}, conditions []precondition.Condition,
	judge func(precondition.Condition) (bool, string), start func(look func())) (why string, err error) {
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

// Path checks a condition that needs no knowledge of the device, which are those on paths: the other kinds do not hold.
func Path(c precondition.Condition) (holds bool, why string) {
	if c.Kind == precondition.Path {
		_, err := os.Lstat(c.Value)
		holds = err == nil
	}
	if holds == c.Not {
		return false, c.String() + " does not hold"
	}
	return true, ""
}
