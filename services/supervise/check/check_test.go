package check

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/spec/precondition"
	"resinos/services/supervise/loop"
)

var errNoProcess = errors.New("no process here")

// runner returns a Runner whose loop is the test.
func runner(t *testing.T) *Runner {
	r := &Runner{
		Calls: loop.NewCalls(), Log: slog.New(slog.DiscardHandler),
		Start: func(*spec.Spec, []string, func(proc.Status)) (*proc.Process, error) { return nil, errNoProcess },
	}
	r.Begin(t.Context())
	return r
}

func conditional() *spec.Spec {
	return &spec.Spec{Name: "a", Conditions: []precondition.Condition{{Kind: precondition.Path, Value: "/x"}}}
}

// turn is one turn of the loop; everything else is at rest when the call is made.
func turn(r *Runner) {
	call := <-r.Calls.C()
	synctest.Wait()
	call()
}

// TestConditions: the loop gets the answer, also when the goroutine that found it has long ended.
func TestConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runner(t)
		for _, want := range []string{"", "it is not"} {
			r.Holds = func(precondition.Condition) (bool, string) { return want == "", want }
			var c Checks
			got := []string{}
			c.Conditions(r, conditional(), func(why string, err error) { got = append(got, why); noError(t, err) })
			if !c.Pending() {
				t.Error("not pending before the answer")
			}
			turn(r)
			if len(got) != 1 || got[0] != want || c.Pending() {
				t.Errorf("answers %q, want %q; pending %t", got, want, c.Pending())
			}
		}
	})
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// TestConditionsEnded: a check that is ended has an error for its answer, and one that is overtaken by the next has
// none; both at once never look.
func TestConditionsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, answer, looking := runner(t), make(chan bool), 0
		r.Holds = func(precondition.Condition) (bool, string) { looking++; return <-answer, "it is not" }
		var c Checks
		var first, second []error
		c.Conditions(r, conditional(), func(_ string, err error) { first = append(first, err) })
		synctest.Wait()
		c.EndConditions()
		call := <-r.Calls.C()
		c.Conditions(r, conditional(), func(_ string, err error) { second = append(second, err) })
		synctest.Wait()
		call()
		if len(first) != 0 || !c.Pending() {
			t.Errorf("the overtaken check answers %v", first)
		}
		c.EndConditions()
		turn(r)
		if len(second) != 1 || second[0] == nil || c.Pending() {
			t.Errorf("the ended check answers %v", second)
		}
		if looking != 1 {
			t.Errorf("%d look at once", looking)
		}
		answer <- true
	})
}

// TestReady: a result that was posted before the probes were ended, and whose turn comes after it, is not heard.
func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, sp := runner(t), &spec.Spec{Name: "a", Ready: spec.Ready{Port: "no port"}}
		var c Checks
		results := 0
		done := func(err error) {
			results++
			if err == nil || !strings.Contains(err.Error(), "no port") {
				t.Errorf("result %v", err)
			}
		}
		c.Ready(r, sp, done)
		turn(r)
		if results != 1 {
			t.Errorf("%d results, want 1", results)
		}
		c.Ready(r, sp, done)
		call := <-r.Calls.C()
		c.EndProbes()
		call()
		if results != 1 {
			t.Error("heard after the probes have ended")
		}
		c.Ready(r, &spec.Spec{Name: "b"}, done) // has no way to be checked
		r.Wait()
	})
}

// TestHealth: each failure is counted, the last makes the service unhealthy, and the end of the probes forgets them.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, sp := runner(t), &spec.Spec{Name: "a", Health: spec.Health{Command: []string{"x"}, Every: time.Second}}
		sp.Health.Retries = 2
		var c Checks
		var failed error
		c.Health(r, sp, func(err error) { failed = err })
		for want := 1; want <= 2; want++ {
			turn(r)
			if c.Failures() != want {
				t.Errorf("%d failures, want %d", c.Failures(), want)
			}
		}
		turn(r)
		if !errors.Is(failed, errNoProcess) {
			t.Errorf("unhealthy: %v", failed)
		}
		c.EndProbes()
		if c.Failures() != 0 {
			t.Error("failures are not forgotten")
		}
		r.Wait()
	})
}

// TestCommand: a command that ends badly says how, and one that cannot be started says why.
func TestCommand(t *testing.T) {
	r := runner(t)
	if err := r.Command(&spec.Spec{})(t.Context(), []string{"x"}); err != errNoProcess {
		t.Errorf("%v, want %v", err, errNoProcess)
	}
	var status syscall.WaitStatus
	r.Start = func(_ *spec.Spec, _ []string, onExit func(proc.Status)) (*proc.Process, error) {
		onExit(proc.Status{Pid: 7, Wait: status})
		return &proc.Process{}, nil
	}
	if err := r.Command(&spec.Spec{})(context.Background(), []string{"/bin/x"}); err != nil {
		t.Errorf("exit code 0: %v", err)
	}
	status = 3 << 8
	err := r.Command(&spec.Spec{})(context.Background(), []string{"/bin/x"})
	if err == nil || !strings.Contains(err.Error(), "/bin/x: exit code 3") {
		t.Errorf("exit code 3: %v", err)
	}
}
