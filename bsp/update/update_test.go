package update

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"resinos/bsp/bootvars"
	"resinos/bsp/slot"
)

var day = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// armed is a device that was switched to slot B in boot "one".
func armed() (Record, bootvars.Variables) {
	r := Record{Format: format, Slots: map[slot.Name]Content{slot.B: {Version: "2", Digest: "d2"}}}
	r.Add(Attempt{Version: "2", From: "1", Slot: slot.B, Digest: "d2", Index: 7, State: Trial, Began: day,
		ArmedIn: "one"})
	return r, Arm(bootvars.New(), r.Attempts[0])
}

func TestSettle(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Record, *Facts) // from a device that was armed in boot one, and runs slot A in boot two
		state  State
		cause  Cause
		reason string // a part of it
		says   string
		trial  bool
		slot   slot.Name // of the variables
		try    slot.Name
	}{
		{
			"reboot to come", func(_ *Record, f *Facts) { f.BootID = "one" },
			Trial, "", "", "", false, slot.A, slot.B,
		},
		{
			"on trial", func(_ *Record, f *Facts) { f.Booted, f.Variables.Tries = slot.B, "2" },
			Trial, "", "", "", true, slot.A, slot.B,
		},
		{
			"on trial for the last time", func(_ *Record, f *Facts) { f.Booted, f.Variables.Tries = slot.B, "0" },
			Trial, "", "", "", true, slot.A, slot.B,
		},
		{
			"confirmed, power cut before the record", func(_ *Record, f *Facts) {
				f.Booted, f.Variables = slot.B, bootvars.Variables{Slot: slot.B}
			},
			Confirmed, "", "", "", false, slot.B, bootvars.NoTrial,
		},
		{
			"old slot is gone", func(_ *Record, f *Facts) { f.Booted, f.Variables = slot.B, bootvars.New() },
			Confirmed, "", "could not boot slot A", "name slot A, but slot B was booted", false, slot.B,
			bootvars.NoTrial,
		},
		{
			"tries used up, boots came far", func(r *Record, f *Facts) {
				r.Attempts[0].Reached = []string{"x", "y"}
				f.Variables.Tries, f.Last = "0", LastBoot{How: "watchdog", Why: "reset", BootID: "y"}
			},
			Failed, TriesUsedUp, "2 of them came as far as their services; the last one ended with watchdog: reset",
			"update to 2 failed", false, slot.A, bootvars.NoTrial,
		},
		{
			"tries used up, init missing", func(_ *Record, f *Facts) {
				f.Variables.Tries, f.Last = "0", LastBoot{How: "clean", BootID: "one"}
			},
			Failed, TriesUsedUp, "no boot of it came as far as the state partition", "", false, slot.A,
			bootvars.NoTrial,
		},
		{
			"tries used up, init hangs", func(_ *Record, f *Facts) {
				f.Variables.Tries, f.Last = "0", LastBoot{How: "clean", BootID: "one", Later: "watchdog"}
			},
			Failed, TriesUsedUp, "root or init is at fault; the last one ended with watchdog", "", false, slot.A,
			bootvars.NoTrial,
		},
		{
			"no kernel", func(_ *Record, f *Facts) { f.Variables.Tries, f.Variables.Fault = "0", bootvars.KernelFault },
			Failed, KernelFails, "could not load kernel", "", false, slot.A, bootvars.NoTrial,
		},
		{
			"went to the other slot because of its root", func(r *Record, f *Facts) {
				*r, f.Booted, f.Variables = Record{}, slot.B, bootvars.New().LeaveRoot(slot.A)
			},
			Failed, RootFails, "root of slot A could not be attached, so the device went to slot B", "", false, slot.B,
			bootvars.NoTrial,
		},
		{
			"the same, and that slot had failed before", func(r *Record, f *Facts) {
				*r, f.Booted, f.Variables = Record{}, slot.B, bootvars.New().LeaveRoot(slot.A)
				r.Add(Attempt{Slot: slot.A, State: Failed, LeftIn: "earlier"})
			},
			Failed, RootFails, "root of slot A could not be attached", "", false, slot.B, bootvars.NoTrial,
		},
		{
			"went back in the middle of a trial", func(_ *Record, f *Facts) {
				f.Booted, f.Variables = slot.B, f.Variables.LeaveRoot(slot.A)
			},
			Confirmed, "", "", "", false, slot.B, bootvars.NoTrial,
		},
		{
			"never tried", func(*Record, *Facts) {},
			Failed, NotTried, "has not booted slot B", "", false, slot.A, bootvars.NoTrial,
		},
		{
			"variables became unwritable", func(_ *Record, f *Facts) { f.Variables.Tries = "1" },
			Failed, NotTried, "with 1 of 3 tries left", "", false, slot.A, bootvars.NoTrial,
		},
		{
			"cut before the switch", func(_ *Record, f *Facts) { f.Variables = bootvars.New() },
			Failed, Interrupted, "switched off before the switch", "", false, slot.A, bootvars.NoTrial,
		},
		{
			"updater ended before the switch",
			func(_ *Record, f *Facts) { f.Variables, f.BootID = bootvars.New(), "one" },
			Failed, Interrupted, "updater ended before", "", false, slot.A, bootvars.NoTrial,
		},
		{
			"cut while writing", func(r *Record, f *Facts) {
				r.Attempts[0].State, f.Variables = Writing,
					bootvars.New()
			},
			Failed, Interrupted, "while it wrote slot B", "", false, slot.A, bootvars.NoTrial,
		},
		{
			"writing goes on", func(r *Record, f *Facts) {
				r.Attempts[0].State, f.Variables, f.Busy = Writing, bootvars.New(), true
			},
			Writing, "", "", "", false, slot.A, bootvars.NoTrial,
		},
		{
			"record lost, on trial", func(r *Record, f *Facts) {
				*r, f.Booted, f.Variables.Tries = Record{}, slot.B,
					"1"
			},
			Trial, "", "", "no record of its update", true, slot.A, slot.B,
		},
		{
			"record lost, tries used up", func(r *Record, f *Facts) { *r, f.Variables.Tries = Record{}, "0" },
			Failed, TriesUsedUp, "", "unknown version failed", false, slot.A, bootvars.NoTrial,
		},
		{
			"gave up, power cut before the variables", func(r *Record, f *Facts) {
				r.fail(&r.Attempts[0], Unhealthy, "x", day)
				r.Attempts[0].LeftIn, f.Booted, f.Variables.Tries = "earlier", slot.B, "2"
			},
			Failed, Unhealthy, "x", "", false, slot.A, bootvars.NoTrial,
		},
		{
			"variables of a slot that nobody booted", func(r *Record, f *Facts) {
				*r, f.Variables = Record{}, bootvars.Variables{Slot: slot.B}
			},
			"", "", "", "name slot B, but slot A was booted", false, slot.A, "",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, v := armed()
			f := Facts{Booted: slot.A, Running: "1", BootID: "two", Variables: v, Now: day}
			test.change(&r, &f)
			s := Settle(r, f)
			var a Attempt
			if len(s.Record.Attempts) > 0 {
				a = s.Record.Attempts[0]
			}
			wrongReason := test.reason == "" && a.Reason != "" && test.cause != TriesUsedUp ||
				!strings.Contains(a.Reason, test.reason)
			if a.State != test.state || a.Cause != test.cause || wrongReason {
				t.Errorf("attempt %+v; want %s, cause %q, %q", a, test.state, test.cause, test.reason)
			}
			if s.OnTrial != test.trial || s.Variables.Slot != test.slot || s.Variables.Try != test.try {
				t.Errorf("on trial %v, variables %+v; want %v, slot %s, try %s",
					s.OnTrial, s.Variables, test.trial, test.slot, test.try)
			}
			if said := strings.Join(s.Says, "; "); !strings.Contains(said, test.says) {
				t.Errorf("says %q, want %q", said, test.says)
			}
			wantRefused := map[Cause]bool{KernelFails: true, TriesUsedUp: true, Unhealthy: true}[test.cause] &&
				a.Digest != ""
			if s.Record.IsRefused("d2") != wantRefused {
				t.Errorf("refused is %v", !wantRefused)
			}
			f.Variables = s.Variables
			if again := Settle(s.Record, f); !reflect.DeepEqual(again.Record, s.Record) ||
				!reflect.DeepEqual(again.Variables, s.Variables) {
				t.Errorf("settled again it is %+v, %+v; was %+v, %+v", again.Record, again.Variables, s.Record,
					s.Variables)
			}
		})
	}
}

// world is a device in the model: what is on its disk, and how it goes on.
type world struct {
	record Record
	vars   bootvars.Variables
	boot   int
	loads  map[slot.Name]bool
	writes int // that reach the disk before the power goes
}

var errCut = errors.New("power cut")

func (w *world) write(do func()) error {
	if w.writes == 0 {
		return errCut
	}
	w.writes--
	do()
	return nil
}

func (w *world) settle(s Settled) error {
	return errors.Join(w.write(func() { w.record = s.Record }), w.write(func() { w.vars = s.Variables }))
}

// run boots until nothing is on trial any more. healthy is what the checks of the new version say, comes is whether it
// comes as far as them. Power is cut once after so many writes, and is there from then on.
func (w *world) run(t *testing.T, comes, healthy bool) slot.Name {
	t.Helper()
	for range 12 {
		w.boot++
		b := w.vars.Boot(bootvars.Firmware{Writes: true, Loads: w.loads})
		if b.Slot == "" {
			t.Fatal("no slot was booted")
		}
		w.vars = b.After
		if b.Slot == slot.B && !comes {
			continue
		}
		if !b.Update {
			return b.Slot
		}
		err := w.services(b.Slot, healthy)
		if err != nil {
			w.writes = 1000
			continue
		}
		if b.Slot == slot.A || healthy && w.record.Attempts[0].State == Confirmed {
			return b.Slot
		}
	}
	t.Fatal("it never ends")
	return ""
}

func (w *world) services(booted slot.Name, healthy bool) error {
	s := Settle(w.record, Facts{Booted: booted, BootID: string(rune('a' + w.boot)), Variables: w.vars, Now: day})
	if err := w.settle(s); err != nil {
		return err
	}
	if !s.OnTrial {
		return nil // a slot that is to be left is left by run
	}
	if healthy {
		r, v := s.Confirm("")
		return errors.Join(w.write(func() { w.vars = v }), w.write(func() { w.record = r }))
	}
	r, v := s.GiveUp(Unhealthy, "x", nil)
	return errors.Join(w.write(func() { w.record = r }), w.write(func() { w.vars = v }))
}

// TestLeaving: between the decision to go back and the reboot nothing corrects the variables; if the bootloader falls
// back to the slot that was left, because the other one is gone, the device stays there.
func TestLeaving(t *testing.T) {
	r, v := armed()
	v.Tries = "2"
	f := Facts{Booted: slot.B, BootID: "two", Variables: v, Now: day}
	r, f.Variables = Settle(r, f).GiveUp(Unhealthy, "x", []string{"line"})
	if s := Settle(r, f); !s.Leaving || s.OnTrial || s.Variables.Slot != slot.A ||
		s.Record.Attempts[0].Log[0] != "line" {
		t.Errorf("before the reboot: %+v", s)
	}
	f.BootID = "three"
	if s := Settle(r, f); s.Leaving || s.OnTrial || s.Variables.Slot != slot.B || len(s.Says) != 1 {
		t.Errorf("fell back: %+v", s)
	}
}

// TestUpdateUnderPowerCuts: wherever one write is the last before a power cut, the device ends in the new slot if
// that is
// good, and in the old one if it is not, and the record says so.
func TestUpdateUnderPowerCuts(t *testing.T) {
	for writes := range 12 {
		for _, test := range []struct {
			name                  string
			loads, comes, healthy bool
			want                  slot.Name
		}{
			{"good", true, true, true, slot.B},
			{"unhealthy", true, true, false, slot.A},
			{"no init", true, false, false, slot.A},
			{"no kernel", false, true, true, slot.A},
		} {
			r, v := armed()
			w := &world{record: r, vars: v, writes: writes, loads: map[slot.Name]bool{slot.A: true, slot.B: test.loads}}
			got := w.run(t, test.comes, test.healthy)
			w.writes = 1000
			if err := w.services(got, true); err != nil { // what osctl shows settles too
				t.Fatal(err)
			}
			a := w.record.Attempts[0]
			if got != test.want || w.vars.Slot != test.want || w.vars.Try.Valid() ||
				(a.State == Confirmed) != (test.want == slot.B) {
				t.Errorf("%s, cut after %d writes: runs %s, %+v, %+v", test.name, writes, got, w.vars, a)
			}
			if (w.record.Index == 7) != (test.want == slot.B) {
				t.Errorf("%s: rollback index %d", test.name, w.record.Index)
			}
		}
	}
}

func TestRecordFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "update.json")
	if r, err := Read(path); err != nil || len(r.Attempts) != 0 {
		t.Errorf("none: %+v, %v", r, err)
	}
	r, _ := armed()
	for range 30 {
		r.Add(Attempt{Slot: slot.A, State: Failed,
			Log: strings.Split(strings.Repeat(strings.Repeat("x", 500)+"\n", 100), "\n")})
	}
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil || len(got.Attempts) != mostAttempts || len(got.Attempts[0].Log) != mostLines ||
		got.Slots[slot.B].Version != "2" {
		t.Errorf("read back %d attempts, %v", len(got.Attempts), err)
	}
	for i := range r.Attempts { // in JSON each of these takes six bytes
		r.Attempts[i].Log = strings.Split(strings.Repeat(strings.Repeat("<", 500)+"\n", 100), "\n")
	}
	r.Index = 7
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(path); err != nil || got.Index != 7 || len(got.Attempts) == 0 {
		t.Errorf("a record that would be too large is read back as %+v, %v", got, err)
	}
	for text, want := range map[string]string{
		"": "unexpected end", "{}": "format 0", `{"format":2}`: "format 2",
		`{"format":1,"attempts":[{"slot":"C"}]}`: `slot "C"`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("Read(%q) = %v, want %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"format":1,"attempts":[{"slot":"B","state":"trial","armed_in":"x"}]}`), "2", true)
	f.Add([]byte(`{"format":1,"attempts":[{"slot":"A","state":"writing"}]}`), "0", false)
	f.Fuzz(func(t *testing.T, text []byte, tries string, inB bool) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		facts := Facts{Booted: slot.A, Variables: bootvars.Variables{Slot: slot.A, Try: slot.B, Tries: tries}}
		if inB {
			facts.Booted = slot.B
		}
		if s := Settle(r, facts); !s.OnTrial && s.Variables.Slot != facts.Booted {
			t.Errorf("slot %s runs, the variables name %s", facts.Booted, s.Variables.Slot)
		}
	})
}

// TestVariablesFile: the file is written in place, and only if it is the file that the bootloader knows.
func TestVariablesFile(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := ReadVariables(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("no file: %v", err)
	}
	for _, b := range bootvars.Bootloaders() {
		path := filepath.Join(dir, b.File())
		text, err := b.Encode(bootvars.Variables{Slot: slot.A, Others: map[string]string{"mine": "1"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		loader, v, err := ReadVariables(dir)
		if loader != b || err != nil {
			t.Fatalf("ReadVariables = %s, %+v, %v", loader, v, err)
		}
		v.Try, v.Tries = slot.B, bootvars.MostTries
		if err := WriteVariables(dir, b, v); err != nil {
			t.Fatal(err)
		}
		if _, got, err := ReadVariables(dir); err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("read back %+v, %v, want %+v", got, err, v)
		}
		if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) || after.Size() != before.Size() {
			t.Errorf("%s is another file: %v", path, err)
		}
		if err := os.Truncate(path, 100); err != nil {
			t.Fatal(err)
		}
		if err := WriteVariables(dir, b, v); err == nil || !strings.Contains(err.Error(), "100 bytes") {
			t.Errorf("a short file was written: %v", err)
		}
		if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
			t.Fatal(err)
		}
		if loader, _, err := ReadVariables(dir); loader != "" || err == nil {
			t.Errorf("variables that cannot be read are of %q, %v", loader, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLock: the second one waits for the first.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error)
	go func() {
		again, err := Lock(path)
		if err == nil {
			again()
		}
		second <- err
	}()
	select {
	case err := <-second:
		t.Fatalf("both hold it: %v", err)
	default:
	}
	unlock()
	if err := <-second; err != nil {
		t.Error(err)
	}
}
