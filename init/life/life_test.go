package life

import (
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"resinos/services/bootreport"
	"resinos/services/boottime"
	"resinos/services/pid1"
)

func TestSignalPolicy(t *testing.T) {
	// What busybox's halt, reboot and poweroff send.
	asked := map[syscall.Signal]pid1.Power{syscall.SIGTERM: pid1.Reboot, syscall.SIGUSR1: pid1.PowerOff,
		syscall.SIGUSR2: pid1.PowerOff}
	var p signalPolicy
	for n := syscall.Signal(1); n <= 64; n++ {
		if action, _ := p.step(time.Minute, n); action != asked[n] {
			t.Errorf("signal %d once gives %q, want %q", n, action, asked[n])
		}
	}
	if action, _ := p.step(time.Minute+11*time.Second, syscall.SIGINT); action != "" {
		t.Errorf("an INT eleven seconds later gives %q", action)
	}
	if action, _ := p.step(time.Minute+20*time.Second, syscall.SIGINT); action != pid1.Reboot {
		t.Errorf("a second INT in time gives %q, want reboot", action)
	}
	said := 0
	for range 1000 {
		if _, say := p.step(time.Hour, syscall.SIGHUP); say {
			said++
		}
	}
	if said != maxLines {
		t.Errorf("%d lines about 1000 signals in one second, want %d", said, maxLines)
	}
}

// TestKernelIsSilent: the kernel is silent on the console of a production image as soon as PID 1 runs, and on no other.
func TestKernelIsSilent(t *testing.T) {
	for _, verbose := range []bool{false, true} {
		printk := filepath.Join(t.TempDir(), "printk")
		if err := os.WriteFile(printk, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		p := &PID1{log: slog.New(slog.DiscardHandler), verbose: verbose, printk: printk}
		p.silenceKernel()
		if text, _ := os.ReadFile(printk); (string(text) == "1") == verbose {
			t.Errorf("verbose %v: it is set to %q", verbose, text)
		}
	}
}

// TestMilestoneIsNeverLater: a time from a client counts only if it is after the kernel's start and not in the future.
func TestMilestoneIsNeverLater(t *testing.T) {
	for at, claimed := range map[float64]bool{0.5: true, 0: false, -1: false, 1e9: false, 1e300: false} {
		p := &PID1{record: bootreport.New(bootreport.Report{}), log: slog.New(slog.DiscardHandler)}
		before := boottime.Now()
		if err := p.milestone("x", at); err != nil {
			t.Fatal(err)
		}
		if got := p.record.Report().Milestones["x"]; claimed != (got == at) || !claimed &&
			got < bootreport.Seconds(before) {
			t.Errorf("claimed %v, kept %v", at, got)
		}
	}
}

// TestTrialThatNobodyEnds: the boot of a slot on trial ends if nobody has confirmed it, once.
func TestTrialThatNobodyEnds(t *testing.T) {
	p := &PID1{requests: make(chan request, 1), log: slog.New(slog.DiscardHandler)}
	file := filepath.Join(t.TempDir(), "confirmed")
	p.endTrial(file)
	p.endTrial(file)
	if r := <-p.requests; r.action != pid1.Reboot || !r.failed || len(p.requests) != 0 {
		t.Errorf("it asks for %+v", r)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.endTrial(file)
	if len(p.requests) != 0 {
		t.Error("a confirmed slot is rebooted")
	}
}
