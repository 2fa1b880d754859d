package lifecycle

import (
	"errors"
	"testing"
	"time"

	"resinos/services/spec"
)

// TestAtBootThenOnDemand: what starts at boot starts without any demand; after a clean end it waits for one if it
// restarts on failure only, and a failure restarts it.
func TestAtBootThenOnDemand(t *testing.T) {
	at := time.Now()
	waits := spec.Spec{Name: "s", Type: spec.Simple, Start: spec.AtBoot, Restart: spec.OnFailure, FDStore: 1,
		ListenStored: true}
	always, without, demand := waits, waits, waits
	always.Restart, without.ListenStored, demand.Start = spec.Always, false, spec.OnDemand
	for _, c := range []struct {
		name       string
		sp         spec.Spec
		begin, end Phase
	}{
		{"waits", waits, Starting, Armed}, {"always", always, Starting, Waiting},
		{"no demand", without, Starting, Done}, {"on demand", demand, Armed, Armed},
	} {
		if s, _ := Step(at, &c.sp, Service{Phase: Waiting, Wanted: true}, Input{Event: Clear}); s.Phase != c.begin {
			t.Errorf("%s: begins as %s, want %s", c.name, s.Phase, c.begin)
		}
		up := Service{Phase: Clearing, Wanted: true, PID: 7}
		s, acts := Step(at, &c.sp, up, Input{Empty: true})
		if s.Phase != c.end || c.end == Armed && (len(acts) != 1 || acts[0] != Arm) {
			t.Errorf("%s: ends as %s with %v, want %s", c.name, s.Phase, acts, c.end)
		}
	}
	s, _ := Step(at, &waits, Service{Phase: Up, Wanted: true, PID: 7}, Input{Event: Exit, Err: errors.New("killed")})
	if s, _ = Step(at, &waits, s, Input{Empty: true}); s.Phase != Waiting {
		t.Errorf("after a failure it is %s, want waiting", s.Phase)
	}
	if s, _ = Step(at, &waits, Service{Phase: Armed, Wanted: true}, Input{Event: Fire}); s.Phase != Waiting || !s.Soon {
		t.Errorf("its demand: %+v", s)
	}
}
