package supervise

import (
	"testing"
	"time"

	"resinos/services/spec"
)

// TestLastCall: a clock that jumps over a service's sign of life, as after a suspend, kills nobody who then gives it.
func TestLastCall(t *testing.T) {
	begin := time.Now()
	sp := &spec.Spec{Name: "s", Type: spec.Simple, WatchdogEvery: time.Minute}
	living := func() service {
		s, _ := step(begin, sp, service{phase: starting, wanted: true}, input{began: true, pid: 7})
		if s.phase != up || !s.deadline.Equal(begin.Add(time.Minute)) {
			t.Fatalf("it begins as %+v", s)
		}
		return s
	}
	for _, jump := range []time.Duration{time.Minute, 61 * time.Second, 24 * time.Hour} {
		at := begin.Add(jump)
		s, acts := step(at, sp, living(), input{event: timer})
		if s.phase != up || len(acts) != 0 || !s.deadline.Equal(at.Add(30*time.Second)) {
			t.Fatalf("after a jump of %v: %+v, %v", jump, s, acts)
		}
		back, _ := step(at.Add(29*time.Second), sp, s, input{alive: true})
		if back.phase != up || back.silent || !back.deadline.Equal(at.Add(89*time.Second)) {
			t.Errorf("a sign after a jump of %v: %+v", jump, back)
		}
		gone, acts := step(at.Add(30*time.Second), sp, s, input{event: timer})
		if gone.phase != killing || len(acts) != 1 || acts[0] != kill || gone.blame != "no sign of life for 1m30s" {
			t.Errorf("no sign after a jump of %v: %+v, %v", jump, gone, acts)
		}
	}
	none := &spec.Spec{Name: "s", Type: spec.Simple} // its file has lost the key while it runs
	if s, acts := step(begin.Add(time.Hour), none, living(), input{event: timer}); s.phase != up || len(acts) != 0 || !s.deadline.IsZero() {
		t.Errorf("without a watchdog any more: %+v, %v", s, acts)
	}
}
