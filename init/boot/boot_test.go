package boot

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"resinos/init/cmdline"
	"resinos/init/limits"
	"resinos/init/partition"
	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/persist"
	"resinos/mounts/testenv"
	"resinos/services/bootreport"
	"resinos/services/config"
	"resinos/services/settings"
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
	in := Inputs{Variant: "development", Cmdline: cmdline.Line{Root: "x", Slot: "B"},
		Config: config.InForce(config.Loaded{Document: config.Empty()}, "0123456789abcdef0123456789abcdef"),
		Pseudo: table, Binds: binds, Sysctls: sysctls, Shares: limits.Plan(shares,
			have), Disk: "vda", Services: []string{"logd", "containerd"}}
	for _, name := range []string{"sda", "vda"} { // a second disk with the same labels comes first
		for i, label := range []string{disk.Boot, disk.RootA, disk.RootB, disk.State, disk.Data} {
			in.Partitions = append(in.Partitions, disk.Partition{Disk: name, Device: name + string(rune('1'+i)),
				Number: i + 1, Label: label})
		}
	}
	return in
}

func TestPlan(t *testing.T) {
	in := inputs(t)
	testenv.Golden(t, "plan.golden", bootreport.Print(Plan(in)))
	in.Partitions = in.Partitions[:5] // only the foreign disk is left
	text := bootreport.Print(Plan(in))
	if strings.Contains(text, "features that are") { // nobody has asked for them
		t.Errorf("what an image lacks is recorded:\n%s", text)
	}
	in.Config.Values[config.DevelopmentMode] = settings.Value{JSON: []byte("true"), From: settings.File}
	if more := bootreport.Print(Plan(in)); !strings.Contains(more, "not in this image: console (") {
		t.Errorf("what an image lacks is not recorded:\n%s", more)
	}
	if strings.Contains(text, "/dev/sda") || strings.Count(text, "is not on disk") != 3 {
		t.Errorf("a disk that does not carry the slot is used:\n%s", text)
	}
}

// TestDeeds: a step carries out, in order, the deeds that its plan prints of what it has looked at; a fault keeps none
// of them back.
func TestDeeds(t *testing.T) {
	var done []string
	row := step{"some", bootreport.Degraded,
		func(s *System) error { s.Services = []string{"a", "b", "c"}; return errors.New("half seen") },
		func(in Inputs) []deed {
			all := []deed{{does: []string{"found so"}}}
			for _, name := range in.Services {
				all = append(all, deed{[]string{"do " + name}, func(*System) error {
					done = append(done, "do "+name)
					return errors.New("no " + name)
				}})
			}
			return all
		}}
	var s System
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

// TestRepairBeforeTheWatchdog: the repair of the boot partition, in one step, ends before the watchdog resets the
// device.
func TestRepairBeforeTheWatchdog(t *testing.T) {
	if partition.BootPatience >= bootTimeout {
		t.Errorf("a repair may take %v, the watchdog waits %v", partition.BootPatience, bootTimeout)
	}
}
