package shutdown

import (
	"io"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"resinos/init/lastboot"
	"resinos/init/partition"
	"resinos/mounts/disk"
)

func TestLives(t *testing.T) {
	for stat, want := range map[string]bool{
		"12 (sh) S 1 12 12 0 -1 4194560 1":      true,
		"12 (a) Z b) R 1 12 12 0 -1 4194560 1":  true,
		"12 (sh) Z 1 12 12 0 -1 4194560 1":      false,
		"2 (kthreadd) S 0 0 0 0 -1 2129984 0":   false,
		"2 (kworker/0:0) I 2 0 0 0 -1 69238880": false,
		"":                                      false, "garbage": false, "1 (x) S": false,
	} {
		if got := lives(stat); got != want {
			t.Errorf("lives(%q) = %v, want %v", stat, got, want)
		}
	}
}

func TestBudgetsFitTheHardLimit(t *testing.T) {
	var sum time.Duration
	names := ""
	for _, p := range phases() {
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

// TestUrgency: at each level the right phases are gone through; whatever is skipped, the last thing is that what is
// dirty is written.
func TestUrgency(t *testing.T) {
	for l, want := range map[level]string{
		orderly: "services leftovers kill sync detach mark detach state ",
		hurried: "kill sync detach mark detach state ",
		cut:     "last sync ",
	} {
		d := &Shutdown{Config: Config{Log: slog.New(slog.DiscardHandler)}, urgent: make(chan struct{}), level: l}
		done := ""
		for _, p := range phases() {
			p.do = func(*Shutdown) { done += p.name + " " }
			d.pass(p)
		}
		if done != want {
			t.Errorf("at level %d it does %s, want %s", l, done, want)
		}
	}
	table := phases()
	last := reflect.ValueOf(table[len(table)-1].do).Pointer()
	if last != reflect.ValueOf((*Shutdown).sync).Pointer() {
		t.Error("the last sync is none")
	}
}

// TestPassIsBounded: a phase that hangs ends with its limit; a patient one also when somebody is in a hurry; none
// starts at the last level.
func TestPassIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		never := make(chan struct{})
		defer close(never)
		hang := func(*Shutdown) { <-never }
		d := &Shutdown{Config: Config{Log: slog.New(slog.NewTextHandler(io.Writer(&log), nil))},
			urgent: make(chan struct{})}
		begin := time.Now()
		d.pass(phase{name: "hangs", limit: 3 * time.Second, do: hang})
		if took := time.Since(begin); took != 3*time.Second || !strings.Contains(log.String(), "phase=hangs") {
			t.Errorf("took %v\n%s", took, log.String())
		}
		d.pass(phase{name: "breaks", limit: time.Second, do: func(*Shutdown) { panic("oops") }})
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
		d.pass(phase{name: "next", limit: time.Second, patient: true, do: func(*Shutdown) { ran = true }})
		d.escalate(orderly) // never back
		d.pass(phase{name: "kill", limit: time.Second, do: func(*Shutdown) { ran = !ran }})
		if !ran {
			t.Error("hurried, the wrong phases are left out")
		}
		d.escalate(cut + 1)
		d.pass(phase{name: "sync", limit: time.Second, do: func(*Shutdown) { ran = false }})
		if l, _ := d.urgency(); !ran || l != cut {
			t.Errorf("at the last level %v a phase runs", l)
		}
	})
}
