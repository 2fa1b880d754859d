package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"resinos/init/lastboot"
	"resinos/init/partition"
	"resinos/mounts/disk"
	"resinos/services/bootreport"
	"resinos/services/boottime"
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
		Down: &downState{Action: pid1.Reboot, End: lastboot.Marker{How: lastboot.EndClean}, Since: time.Minute, Level: hurried}}
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

func TestBudgetsFitTheHardLimit(t *testing.T) {
	var sum time.Duration
	names := ""
	for _, p := range wayDown() {
		sum += p.limit
		names += p.name + " "
	}
	if sum > hardLimit {
		t.Errorf("the phases add up to %v, the hard limit is %v", sum, hardLimit)
	}
	if names != "services leftovers kill sync detach mark detach state last sync " {
		t.Errorf("the order is %s", names)
	}
	if partition.Target(disk.State)+"/last-boot.json" != lastboot.MarkerFile {
		t.Error("the marker is not on the state partition")
	}
}

// TestUrgency: at each level the right phases are gone through; whatever is skipped, the last thing is that what is dirty is written.
func TestUrgency(t *testing.T) {
	for l, want := range map[level]string{
		orderly: "services leftovers kill sync detach mark detach state ",
		hurried: "kill sync detach mark detach state ",
		cut:     "last sync ",
	} {
		d := &down{log: slog.New(slog.DiscardHandler), urgent: make(chan struct{}), level: l}
		done := ""
		for _, p := range wayDown() {
			p.do = func(*down) { done += p.name + " " }
			d.pass(p)
		}
		if done != want {
			t.Errorf("at level %d it does %s, want %s", l, done, want)
		}
	}
	table := wayDown()
	if at, last := len(table)-1, reflect.ValueOf((*down).sync).Pointer(); reflect.ValueOf(table[at].do).Pointer() != last {
		t.Error("the last sync is none")
	}
}

// TestPassIsBounded: a phase that hangs ends with its limit; a patient one also when somebody is in a hurry; none starts at the last level.
func TestPassIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		never := make(chan struct{})
		defer close(never)
		hang := func(*down) { <-never }
		d := &down{log: slog.New(slog.NewTextHandler(io.Writer(&log), nil)), urgent: make(chan struct{})}
		begin := time.Now()
		d.pass(phase{name: "hangs", limit: 3 * time.Second, do: hang})
		if took := time.Since(begin); took != 3*time.Second || !strings.Contains(log.String(), "phase=hangs") {
			t.Errorf("took %v\n%s", took, log.String())
		}
		d.pass(phase{name: "breaks", limit: time.Second, do: func(*down) { panic("oops") }})
		if !strings.Contains(log.String(), "phase=breaks") {
			t.Errorf("log %s", log.String())
		}
		begin = time.Now()
		time.AfterFunc(time.Second, func() { d.escalate(hurried) })
		d.pass(phase{name: "patient", limit: time.Minute, patient: true, do: hang})
		if took := time.Since(begin); took != time.Second {
			t.Errorf("hurried, a patient phase took %v", took)
		}
		ran := false
		d.pass(phase{name: "next", limit: time.Second, patient: true, do: func(*down) { ran = true }})
		d.escalate(orderly) // never back
		d.pass(phase{name: "kill", limit: time.Second, do: func(*down) { ran = !ran }})
		if !ran {
			t.Error("hurried, the wrong phases are left out")
		}
		d.escalate(cut + 1)
		d.pass(phase{name: "sync", limit: time.Second, do: func(*down) { ran = false }})
		if l, _ := d.urgency(); !ran || l != cut {
			t.Errorf("at the last level %v a phase runs", l)
		}
	})
}

// TestLastDownWaitsForNobody: a supervisor that stands still will never say that it has ended.
func TestLastDownWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := slog.New(slog.DiscardHandler)
		p := &PID1{log: silent, system: &system{}, stop: func() {}, supervised: make(chan struct{}), stopped: make(chan struct{})}
		close(p.supervised) // frozen for a re-exec that failed
		begin := time.Now()
		d := p.lastDown("re-exec: no")
		d.pass(phase{name: "services", limit: stopPatience, patient: true, do: (*down).stopServices})
		if took := time.Since(begin); took != 0 {
			t.Errorf("waits %v for services that nobody stops", took)
		}
		stuck := errors.New("stands still")
		ask := p.unlessGoing(func(context.Context) error { return stuck })
		if err := ask(t.Context()); err != nil {
			t.Errorf("the watchdog bites on the way down: %v", err)
		}
		d.since = boottime.Now() - hardLimit
		if err := ask(t.Context()); err != stuck {
			t.Errorf("the watchdog is fed beyond the hard limit: %v", err)
		}
		if d.end.How != lastboot.EndPanic || d.end.Why != "re-exec: no" {
			t.Errorf("the next boot is told %+v", d.end)
		}
	})
}
