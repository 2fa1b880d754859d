package boot

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"resinos/net/clockstatus"
)

func TestReadRTC(t *testing.T) {
	path := filepath.Join(t.TempDir(), "since_epoch")
	if got := readRTC(path); !got.IsZero() {
		t.Errorf("without a clock: %v", got)
	}
	for text, want := range map[string]int64{"1795600800\n": 1795600800, "0\n": 0, "": -1, "soon": -1} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := readRTC(path); got.IsZero() != (want < 0) || want >= 0 && got.Unix() != want {
			t.Errorf("readRTC of %q = %v", text, got)
		}
	}
}

func TestNoteStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "time.json")
	build, saved := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	rtc := time.Unix(7, 0)
	load := func() clockstatus.Status {
		t.Helper()
		s, err := clockstatus.Load(path)
		if err != nil || s.Start == nil {
			t.Fatalf("status = %+v, %v", s, err)
		}
		return s
	}
	// The two steps of a boot with a dead hardware clock.
	if err := noteStart(path, clockstatus.Start{Origin: clockstatus.FromBuild, At: build, Build: build,
		Before: time.Unix(9, 0), RTC: &rtc}); err != nil {
		t.Fatal(err)
	}
	if s := load(); s.Origin != clockstatus.FromBuild || !s.Start.At.Equal(build) || s.Start.Saved != nil ||
		s.Start.RTC.Unix() != 7 || s.Synchronised {
		t.Errorf("first: %+v %+v", s, s.Start)
	}
	if err := noteStart(path, clockstatus.Start{Origin: clockstatus.FromSaved, At: saved, Build: build, Before: build,
		Saved: &saved, RTC: &rtc}); err != nil {
		t.Fatal(err)
	}
	if s := load(); s.Origin != clockstatus.FromSaved || !s.Start.At.Equal(saved) || !s.Start.Saved.Equal(saved) ||
		s.Start.Before.Unix() != 9 {
		t.Errorf("second: %+v %+v", s, s.Start)
	}
	// A boot that is walked again, when the clock is right: the daemon's file stays.
	daemons := `{"synchronised": true, "pid": 5, "origin": "ntp", "start": {"origin": "saved"}}`
	if err := os.WriteFile(path, []byte(daemons), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := noteStart(path, clockstatus.Start{Origin: clockstatus.FromClock, At: time.Now(), Build: build,
		Before: time.Now(), Saved: &saved}); err != nil {
		t.Fatal(err)
	}
	if s := load(); !s.Synchronised || s.Origin != clockstatus.FromNTP || s.Start.Origin != clockstatus.FromSaved {
		t.Errorf("again: %+v", s)
	}
	// Garbage is replaced.
	if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := noteStart(path, clockstatus.Start{Origin: clockstatus.FromClock, At: build, Build: build,
		Before: build}); err != nil {
		t.Fatal(err)
	}
	if s := load(); s.Origin != clockstatus.FromClock {
		t.Errorf("after garbage: %+v", s)
	}
}
