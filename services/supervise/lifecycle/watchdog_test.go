package lifecycle

import (
	"testing"
	"time"

	"resinos/services/spec"
)

// TestLastCall: when the clock jumps over a watchdog message, as after a suspend, a service that then sends it is not
// killed.
func TestLastCall(t *testing.T) {
	begin := time.Now()
	sp := &spec.Spec{Name: "s", Type: spec.Simple, WatchdogEvery: time.Minute}
	living := func() Service {
		s, _ := Step(begin, sp, Service{Phase: Starting, Wanted: true}, Input{Began: true, PID: 7})
		if s.Phase != Up || !s.Deadline.Equal(begin.Add(time.Minute)) {
			t.Fatalf("it begins as %+v", s)
		}
		return s
	}
	for _, jump := range []time.Duration{time.Minute, 61 * time.Second, 24 * time.Hour} {
		at := begin.Add(jump)
		s, acts := Step(at, sp, living(), Input{Event: Timer})
		if s.Phase != Up || len(acts) != 0 || !s.Deadline.Equal(at.Add(30*time.Second)) {
			t.Fatalf("after a jump of %v: %+v, %v", jump, s, acts)
		}
		back, _ := Step(at.Add(29*time.Second), sp, s, Input{Alive: true})
		if back.Phase != Up || back.silent || !back.Deadline.Equal(at.Add(89*time.Second)) {
			t.Errorf("a sign after a jump of %v: %+v", jump, back)
		}
		gone, acts := Step(at.Add(30*time.Second), sp, s, Input{Event: Timer})
		if gone.Phase != Killing || len(acts) != 1 || acts[0] != Kill || gone.Blame != "no watchdog message for 1m30s" {
			t.Errorf("no sign after a jump of %v: %+v, %v", jump, gone, acts)
		}
	}
	none := &spec.Spec{Name: "s", Type: spec.Simple} // its file has lost the key while it runs
	if s, acts := Step(begin.Add(time.Hour), none, living(), Input{Event: Timer}); s.Phase != Up || len(acts) != 0 ||
		!s.Deadline.IsZero() {
		t.Errorf("without a watchdog any more: %+v, %v", s, acts)
	}
}
