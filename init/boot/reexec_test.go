package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"reflect"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"resinos/init/lastboot"
	"resinos/init/shutdown"
	"resinos/services/bootreport"
	"resinos/services/pid1"
)

// TestStateRoundTrip: all that the next life needs comes through the memory file whole, descriptors included.
func TestStateRoundTrip(t *testing.T) {
	in := inputs(t)
	in.Config.Unknown = []string{"x"}
	pipe, err := os.CreateTemp(t.TempDir(), "pipe")
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	before := state{Now: 5 * time.Second, CPU: time.Second, Inputs: in, supervisor: []byte("its own words \x00\xff"),
		Report: bootreport.Report{Milestones: map[string]float64{"root": 1.5}, Steps: []bootreport.Step{{Name: "x"}}, Reexecs: 3, Last: &bootreport.Last{How: lastboot.EndClean},
			Lives: []bootreport.Life{{At: 1, Reason: "why", Panic: true}}},
		Down: &shutdown.Saved{Action: pid1.Reboot, End: lastboot.Marker{How: lastboot.EndClean}, Since: time.Minute, Level: 1}}
	if err := before.add(filePipe, "logd", pipe); err != nil {
		t.Fatal(err)
	}
	file, err := before.encode()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := number(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(stateVariable, strconv.Itoa(fd))
	after, err := takeState()
	if err != nil {
		t.Fatal(err)
	}
	if _, again := os.LookupEnv(stateVariable); again {
		t.Error("children would inherit the variable")
	}
	if !reflect.DeepEqual(after.Inputs, before.Inputs) || !reflect.DeepEqual(after.Report, before.Report) || !reflect.DeepEqual(after.Down, before.Down) {
		t.Errorf("the state came as\n%+v\nwent as\n%+v", after, before)
	}
	if after.Now != before.Now || after.CPU != before.CPU || !bytes.Equal(after.supervisor, before.supervisor) {
		t.Errorf("the state came as %+v", after)
	}
	if number := after.Files[0]; number.Kind != filePipe || number.Name != "logd" {
		t.Errorf("files %+v", after.Files)
	}
	if bootreport.Print(Plan(after.Inputs)) != bootreport.Print(Plan(before.Inputs)) {
		t.Error("the next life tells another plan")
	}
}

func TestTakeStateRefusesNonsense(t *testing.T) {
	if s, err := takeState(); s != nil || err != nil {
		t.Errorf("the first life finds %+v, %v", s, err)
	}
	for _, value := range []string{"", "x", "-1", "0", "2", "99999"} {
		t.Setenv(stateVariable, value)
		if s, err := takeState(); s != nil || err == nil {
			t.Errorf("%s=%q gives %+v", stateVariable, value, s)
		}
	}
}

func FuzzDecodeState(f *testing.F) {
	whole, err := json.Marshal(state{Version: stateVersion, Files: []passed{{fileControl, "", 7}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"files":[{"fd":0}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := decodeState(text)
		if err != nil {
			return
		}
		for _, p := range s.Files {
			if p.FD <= 2 {
				t.Errorf("decodeState(%q) takes over descriptor %d", text, p.FD)
			}
		}
	})
}

func TestTooMany(t *testing.T) {
	life := func(at float64, panicked bool) bootreport.Life { return bootreport.Life{At: at, Panic: panicked} }
	five := []bootreport.Life{life(100, true), life(110, true), life(120, true), life(130, true), life(140, true)}
	for _, tt := range []struct {
		name  string
		lives []bootreport.Life
		now   time.Duration
		want  bool
	}{
		{"none", nil, time.Hour, false},
		{"the sixth in a minute", five, 150 * time.Second, true},
		{"the first is over a minute ago", five, 161 * time.Second, false},
		{"on purpose", []bootreport.Life{life(1, false), life(2, false), life(3, false), life(4, false), life(5, false), life(6, false)}, 7 * time.Second, false},
	} {
		if got := tooMany(tt.lives, tt.now); got != tt.want {
			t.Errorf("%s: tooMany = %v", tt.name, got)
		}
	}
}

// TestLastShutdownWaitsForNobody: a supervisor that stands still will never say that it has ended; the watchdog is fed
// meanwhile, and no longer.
func TestLastShutdownWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := slog.New(slog.DiscardHandler)
		p := &PID1{log: silent, system: &system{}, stop: func() {}, supervised: make(chan struct{}), stopped: make(chan struct{})}
		close(p.supervised) // frozen for a re-exec that failed
		d := p.lastShutdown("re-exec: no")
		select {
		case <-d.Ended:
		default:
			t.Error("it waits for services that nobody stops")
		}
		stuck := errors.New("stands still")
		ask := p.unlessGoingDown(func(context.Context) error { return stuck })
		if err := ask(t.Context()); err != nil {
			t.Errorf("the watchdog is not fed during the shutdown: %v", err)
		}
		saved := d.Save()
		saved.Since -= time.Hour
		p.beginShutdown(shutdown.Resume(d.Config, saved))
		if err := ask(t.Context()); err != stuck {
			t.Errorf("the watchdog is fed when the time of the shutdown is over: %v", err)
		}
		if d.End.How != lastboot.EndPanic || d.End.Why != "re-exec: no" {
			t.Errorf("the next boot is told %+v", d.End)
		}
	})
}
