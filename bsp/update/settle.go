package update

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"resinos/bsp/bootvars"
	"resinos/bsp/slot"
)

// Facts are what the device knows beside the record.
type Facts struct {
	Booted    slot.Name // by the command line: the slot that runs
	Running   string    // its version
	BootID    string    // of this boot
	Variables bootvars.Variables
	Busy      bool      // the updater is at work on the open attempt
	Last      LastBoot  // how the boot before this one ended
	Now       time.Time // of the day
}

// LastBoot is how the boot before this one ended, by its marker, pstore and the watchdog.
type LastBoot struct {
	How, Why, BootID string
	Later            string // how a boot after it ended that left no record of itself
}

// Settled is what follows.
type Settled struct {
	Record    Record
	Variables bootvars.Variables
	Says      []string // for people: what was found and mended
	OnTrial   bool     // the slot that runs is on trial: it is confirmed, or left again
	Leaving   bool     // it is to be left: all that is missing is the reboot

	facts Facts
}

// Settle judges how the update stands. What runs is what was booted: where the variables say something else, they are
// corrected. It changes nothing; whoever calls it writes the record first and then the variables.
func Settle(r Record, f Facts) Settled {
	r.Attempts, r.Slots, r.Refused = slices.Clone(r.Attempts), maps.Clone(r.Slots), slices.Clone(r.Refused)
	s := Settled{Record: r, Variables: f.Variables, facts: f}
	a, open := s.Record.Current()
	switch {
	case !open:
		s.withoutAttempt(f)
	case f.Busy:
	case a.State == Writing && f.Variables.Try != a.Slot:
		s.fail(a, f, Interrupted, fmt.Sprintf("the updater ended while it wrote slot %s", a.Slot))
	case f.Booted == a.Slot:
		s.inNewSlot(a, f)
	default:
		s.inOldSlot(a, f)
	}
	if s.Variables.Slot != f.Booted && !s.OnTrial && !s.Leaving {
		s.say("the boot variables name slot %s, but slot %s was booted: they name it from now on", s.Variables.Slot,
			f.Booted)
		s.Variables.Slot = f.Booted
	}
	return s
}

func (s *Settled) say(format string, args ...any) {
	s.Says = append(s.Says, fmt.Sprintf(format, args...))
}

func (s *Settled) fail(a *Attempt, f Facts, cause Cause, reason string) {
	s.Record.fail(a, cause, reason, f.Now)
	s.Variables = idle(s.Variables)
	s.say("the update to %s failed: %s", named(a.Version), reason)
}

// idle are the variables while no slot is on trial.
func idle(v bootvars.Variables) bootvars.Variables {
	v.Try, v.Tries, v.Fault = bootvars.NoTrial, bootvars.NoTries, bootvars.NoFault
	return v
}

func named(version string) string {
	if version == "" {
		return "an unknown version"
	}
	return version
}

// withoutAttempt: the record knows of none, but the variables may, for the state partition can be lost.
func (s *Settled) withoutAttempt(f Facts) {
	v := f.Variables
	last := s.lastFailure()
	if !v.Try.Valid() {
		s.Leaving = last != nil && last.Slot == f.Booted && last.LeftIn == f.BootID && f.BootID != ""
		return
	}
	if last != nil && last.Slot == v.Try && last.LeftIn != "" && v.Fault != bootvars.RootFault {
		s.Variables = idle(v) // its failure was recorded, and then the power went before the variables were written
		if s.Leaving = f.Booted == v.Try && v.Slot != v.Try; s.Leaving {
			s.Record.Attempts[0].LeftIn = f.BootID
		}
		return
	}
	a := Attempt{Slot: v.Try, State: Trial, Began: f.Now}
	if f.Booted == v.Try && v.Slot != v.Try {
		a.Version = f.Running
		s.Record.Add(a)
		s.OnTrial = true
		s.say("slot %s is on trial, and there is no record of its update", v.Try)
		return
	}
	s.Record.Add(a)
	s.inOldSlot(&s.Record.Attempts[0], f)
}

func (s *Settled) lastFailure() *Attempt {
	if len(s.Record.Attempts) == 0 || s.Record.Attempts[0].State != Failed {
		return nil
	}
	return &s.Record.Attempts[0]
}

// inNewSlot: what was switched to runs.
func (s *Settled) inNewSlot(a *Attempt, f Facts) {
	switch v := f.Variables; {
	case v.Try == a.Slot && v.Slot != a.Slot:
		s.OnTrial = true
	case v.Slot == a.Slot: // the variables are written before the record
		s.Record.confirm(a, "", f.Now)
		s.Variables = idle(v)
	default:
		s.Record.confirm(a, fmt.Sprintf("the bootloader could not boot slot %s any more", a.Slot.Other()), f.Now)
		s.Variables = idle(v)
	}
}

// inOldSlot: what was switched to does not run.
func (s *Settled) inOldSlot(a *Attempt, f Facts) {
	v, most := f.Variables, bootvars.MostTries
	switch {
	case v.Try != a.Slot && a.ArmedIn == f.BootID && f.BootID != "":
		s.fail(a, f, Interrupted, "the updater ended before the switch")
	case v.Try != a.Slot:
		s.fail(a, f, Interrupted, "the device was switched off before the switch")
	case v.Fault == bootvars.KernelFault:
		s.fail(a, f, KernelFails, fmt.Sprintf("the bootloader could not load kernel and initramfs of slot %s", a.Slot))
	case v.Fault == bootvars.RootFault:
		s.fail(a, f, RootFails, fmt.Sprintf(
			"the root of slot %s could not be attached, so the device went to slot %s by itself", a.Slot, f.Booted))
	case v.Tries == bootvars.NoTries:
		s.fail(a, f, TriesUsedUp,
			fmt.Sprintf("slot %s was booted %s times and never confirmed: %s", a.Slot, most, a.reached(f.Last)))
	case v.Tries == most && a.ArmedIn == f.BootID && f.BootID != "": // the reboot has yet to come
	case v.Tries == most:
		s.fail(a, f, NotTried, fmt.Sprintf("the bootloader has not booted slot %s", a.Slot))
	default:
		s.fail(a, f, NotTried, fmt.Sprintf(
			"the bootloader booted slot %s again with %s of %s tries left: it could not write the boot variables",
			f.Booted, v.Tries, most))
	}
}

// reached says how far the boots of the slot on trial came.
func (a Attempt) reached(last LastBoot) string {
	switch {
	case last.BootID != "" && last.BootID == a.ArmedIn:
		text := "no boot of it came as far as the state partition, so its kernel, initramfs, root or init is at fault"
		if last.Later != "" {
			text += "; the last one ended with " + last.Later
		}
		return text
	case len(a.Reached) == 0:
		return "no boot of it came as far as its services; the last one ended with " + last.text()
	}
	return fmt.Sprintf("%d of them came as far as their services; the last one ended with %s", len(a.Reached),
		last.text())
}

func (l LastBoot) text() string {
	switch {
	case l.How == "":
		return "unknown"
	case l.Why == "":
		return l.How
	}
	return l.How + ": " + l.Why
}

// Arm switches to the slot of the open attempt: the variables have it tried from the next boot on.
func Arm(v bootvars.Variables, a Attempt) bootvars.Variables {
	v.Slot, v.Try, v.Tries, v.Fault = a.Slot.Other(), a.Slot, bootvars.MostTries, bootvars.NoFault
	return v
}

// Confirm has the device stay with the slot on trial. The variables are to be written before the record.
func (s Settled) Confirm(reason string) (Record, bootvars.Variables) {
	r := s.Record
	r.Attempts = slices.Clone(r.Attempts)
	a, open := r.Current()
	if !open {
		return r, s.Variables
	}
	v := idle(s.Variables)
	v.Slot = a.Slot
	r.confirm(a, reason, s.facts.Now)
	return r, v
}

// GiveUp leaves the slot on trial for the one before. The record is to be written before the variables: it is read on
// the version that the device goes back to.
func (s Settled) GiveUp(cause Cause, reason string, log []string) (Record, bootvars.Variables) {
	r := s.Record
	r.Attempts = slices.Clone(r.Attempts)
	if a, open := r.Current(); open {
		a.Log, a.LeftIn = clip(log), s.facts.BootID
		r.fail(a, cause, reason, s.facts.Now)
	}
	return r, idle(s.Variables)
}
