package handover

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strconv"
	"testing"
	"time"

	"resinos/init/boot"
	"resinos/init/cmdline"
	"resinos/init/lastboot"
	"resinos/init/limits"
	"resinos/init/shutdown"
	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/persist"
	"resinos/services/bootreport"
	"resinos/services/config"
	"resinos/services/pid1"
	"resinos/services/sysctl"
)

func inputs(t *testing.T) boot.Inputs {
	t.Helper()
	table, err1 := attach.Table()
	binds, err2 := persist.Table()
	sysctls, err3 := sysctl.Table()
	shares, err4 := limits.Table()
	have := map[string]int64{"MemTotal": 497_000 << 10, "kernel.threads-max": 3268, "kernel.pid_max": 32768}
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	in := boot.Inputs{Variant: "development", Cmdline: cmdline.Line{Root: "x", Slot: "B"},
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

// TestStateRoundTrip: all that the next life needs comes through the memory file whole, descriptors included.
func TestStateRoundTrip(t *testing.T) {
	in := inputs(t)
	in.Config.Unknown = []string{"x"}
	pipe, err := os.CreateTemp(t.TempDir(), "pipe")
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	before := State{Now: 5 * time.Second, CPU: time.Second, Inputs: in, Supervisor: []byte("its own words \x00\xff"),
		Report: bootreport.Report{Milestones: map[string]float64{"root": 1.5}, Steps: []bootreport.Step{{Name: "x"}},
			Reexecs: 3, Last: &bootreport.Last{How: lastboot.EndClean},
			Lives: []bootreport.Life{{At: 1, Reason: "why", Panic: true}}},
		Down: &shutdown.Saved{Action: pid1.Reboot, End: lastboot.Marker{How: lastboot.EndClean}, Since: time.Minute,
			Level: 1}}
	if err := before.Add(Pipe, "logd", pipe); err != nil {
		t.Fatal(err)
	}
	file, err := before.Encode()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := number(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(stateVariable, strconv.Itoa(fd))
	after, err := Take()
	if err != nil {
		t.Fatal(err)
	}
	if _, again := os.LookupEnv(stateVariable); again {
		t.Error("children would inherit the variable")
	}
	if !reflect.DeepEqual(after.Inputs, before.Inputs) || !reflect.DeepEqual(after.Report, before.Report) ||
		!reflect.DeepEqual(after.Down, before.Down) {
		t.Errorf("the state came as\n%+v\nwent as\n%+v", after, before)
	}
	if after.Now != before.Now || after.CPU != before.CPU || !bytes.Equal(after.Supervisor, before.Supervisor) {
		t.Errorf("the state came as %+v", after)
	}
	if number := after.Passed[0]; number.Kind != Pipe || number.Name != "logd" {
		t.Errorf("files %+v", after.Passed)
	}
	if bootreport.Print(boot.Plan(after.Inputs)) != bootreport.Print(boot.Plan(before.Inputs)) {
		t.Error("the next life tells another plan")
	}
}

func TestTakeRefusesNonsense(t *testing.T) {
	if s, err := Take(); s != nil || err != nil {
		t.Errorf("the first life finds %+v, %v", s, err)
	}
	for _, value := range []string{"", "x", "-1", "0", "2", "99999"} {
		t.Setenv(stateVariable, value)
		if s, err := Take(); s != nil || err == nil {
			t.Errorf("%s=%q gives %+v", stateVariable, value, s)
		}
	}
}

func FuzzDecode(f *testing.F) {
	whole, err := json.Marshal(State{Version: stateVersion, Passed: []passed{{Control, "", 7}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"files":[{"fd":0}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := decode(text)
		if err != nil {
			return
		}
		for _, p := range s.Passed {
			if p.FD <= 2 {
				t.Errorf("decode(%q) takes over descriptor %d", text, p.FD)
			}
		}
	})
}
