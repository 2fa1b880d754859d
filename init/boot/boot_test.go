package boot

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"resinos/init/cmdline"
	"resinos/init/limits"
	"resinos/init/partition"
	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/persist"
	"resinos/mounts/testenv"
	"resinos/services/bootreport"
	"resinos/services/boottime"
	"resinos/services/config"
	"resinos/services/pid1"
	"resinos/services/sysctl"
)

func inputs(t *testing.T) Inputs {
	t.Helper()
	table, err1 := attach.Table()
	binds, err2 := persist.Table()
	sysctls, err3 := sysctl.Table()
	shares, err4 := limits.Table()
	have := map[string]int64{"MemTotal": 497_000 << 10, "kernel.threads-max": 3268, "kernel.pid_max": 32768}
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	in := Inputs{Variant: "development", Cmdline: cmdline.Line{Root: "x", Slot: "B"}, Config: config.InForce(config.Loaded{Document: config.Empty()}, "0123456789abcdef0123456789abcdef"),
		Pseudo: table, Binds: binds, Sysctls: sysctls, Shares: limits.Plan(shares, have), Disk: "vda", Services: []string{"logd", "containerd"}}
	for _, name := range []string{"sda", "vda"} { // a second disk with the same labels comes first
		for i, label := range []string{disk.Boot, disk.RootA, disk.RootB, disk.State, disk.Data} {
			in.Partitions = append(in.Partitions, disk.Partition{Disk: name, Device: name + string(rune('1'+i)), Number: i + 1, Label: label})
		}
	}
	return in
}

func TestPlan(t *testing.T) {
	in := inputs(t)
	testenv.Golden(t, "plan.golden", bootreport.Print(Plan(in)))
	in.Partitions = in.Partitions[:5] // only the foreign disk is left
	text := bootreport.Print(Plan(in))
	if strings.Contains(text, "/dev/sda") || strings.Count(text, "is not on disk") != 3 {
		t.Errorf("a disk that does not carry the slot is used:\n%s", text)
	}
}

// TestDeeds: a step carries out, in order, the deeds that its plan prints of what it has looked at; a fault keeps none of them back.
func TestDeeds(t *testing.T) {
	var done []string
	row := step{"some", bootreport.Degraded,
		func(s *system) error { s.Services = []string{"a", "b", "c"}; return errors.New("half seen") },
		func(in Inputs) []deed {
			all := []deed{{does: []string{"found so"}}}
			for _, name := range in.Services {
				all = append(all, deed{[]string{"do " + name}, func(*system) error {
					done = append(done, "do "+name)
					return errors.New("no " + name)
				}})
			}
			return all
		}}
	var s system
	if err := row.carryOut(&s); err == nil || err.Error() != "half seen\nno a\nno b\nno c" {
		t.Errorf("carryOut = %v", err)
	}
	var planned []string
	for _, d := range row.deeds(s.Inputs) {
		if d.do != nil {
			planned = append(planned, d.does...)
		}
	}
	if !slices.Equal(done, planned) || len(done) != 3 {
		t.Errorf("done %q, planned %q", done, planned)
	}
}

func TestSignalPolicy(t *testing.T) {
	// What busybox's halt, reboot and poweroff send.
	asked := map[syscall.Signal]pid1.Power{syscall.SIGTERM: pid1.Reboot, syscall.SIGUSR1: pid1.PowerOff, syscall.SIGUSR2: pid1.PowerOff}
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

// TestHush: the kernel is silent on the console of a production image from its first container's output on, and on no other.
func TestHush(t *testing.T) {
	for _, verbose := range []bool{false, true} {
		printk := filepath.Join(t.TempDir(), "printk")
		if err := os.WriteFile(printk, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		p := &PID1{log: slog.New(slog.DiscardHandler), record: bootreport.New(bootreport.Report{}), verbose: verbose, printk: printk}
		p.mark(bootreport.MilestoneEngine, time.Second)
		if text, _ := os.ReadFile(printk); len(text) > 0 {
			t.Errorf("verbose %v: it is set to %s while the boot goes on", verbose, text)
		}
		p.mark(bootreport.MilestoneContainerOutput, 2*time.Second)
		if text, _ := os.ReadFile(printk); (string(text) == "1") == verbose {
			t.Errorf("verbose %v: it is set to %q when the boot is over", verbose, text)
		}
	}
}

// TestMilestoneIsNeverLater: a moment that a client claims counts only if it lies between the kernel's start and now.
func TestMilestoneIsNeverLater(t *testing.T) {
	for at, claimed := range map[float64]bool{0.5: true, 0: false, -1: false, 1e9: false, 1e300: false} {
		p := &PID1{record: bootreport.New(bootreport.Report{}), log: slog.New(slog.DiscardHandler)}
		before := boottime.Now()
		if err := p.milestone("x", at); err != nil {
			t.Fatal(err)
		}
		if got := p.record.Report().Milestones["x"]; claimed != (got == at) || !claimed && got < bootreport.Seconds(before) {
			t.Errorf("claimed %v, kept %v", at, got)
		}
	}
}

// TestRepairBeforeTheWatchdog: the repair of the boot partition, in one step, ends before the watchdog resets the device.
func TestRepairBeforeTheWatchdog(t *testing.T) {
	if partition.BootPatience >= bootTimeout {
		t.Errorf("a repair may take %v, the watchdog waits %v", partition.BootPatience, bootTimeout)
	}
}
