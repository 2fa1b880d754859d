package qemu

import (
	"path/filepath"
	"strings"
	"testing"

	"resinos/bsp/boards"
	"resinos/mounts/testenv"
)

func TestPlanGolden(t *testing.T) {
	for _, name := range []string{"qemu-x86_64", "qemu-arm64"} {
		board, err := boards.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		var firmware []FirmwareFile
		for _, f := range board.Qemu.Firmware {
			firmware = append(firmware, FirmwareFile{f.Kind, "FIRMWARE/" + filepath.Base(f.File)})
		}
		base := Options{Board: board, Firmware: firmware, Image: "disk.img"}
		for kind, change := range map[string]func(*Options){
			"plain":   func(*Options) {},
			"ssh":     func(o *Options) { o.Network.SSHPort = 2222; o.Memory = 1024; o.CPUs = 2; o.Snapshot = true },
			"overlay": func(o *Options) { o.Overlay = "a,b.qcow2"; o.Network.Tap = "tap0"; o.NoReboot = true },
			"disks": func(o *Options) {
				o.Disks = []Disk{{Path: "2.img", Snapshot: true}, {Path: "3.qcow2", Format: "qcow2", ReadOnly: true}}
			},
			"kernel": func(o *Options) {
				o.Kernel = &Kernel{Image: "vmlinuz", Initramfs: "initramfs", CommandLine: "quiet panic=-1"}
				o.Image = ""
				o.Network.None = true
			},
			"counted": func(o *Options) {
				o.Shift, o.Image = 3, ""
				o.Kernel = &Kernel{Image: "vmlinuz", CommandLine: "quiet", ByFirmware: true}
			},
			"recorded": func(o *Options) { o.WriteLog = "log,1.bin" },
			"faulty": func(o *Options) {
				o.Overlay = "overlay,1.qcow2"
				o.Faults = []Fault{{Sector: 8}, {Write: true, Sector: 16, Once: true, NoSpace: true}}
			},
			"devices": func(o *Options) { o.Devices = []string{"bochs-display"}; o.Arguments = []string{"-seed", "1"} },
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				o := base
				change(&o)
				got, err := Plan(o, "DIR")
				if err != nil {
					t.Fatal(err)
				}
				testenv.Golden(t, name+"-"+kind+".txt", got.String())
			})
		}
	}
}

func TestPlanFaults(t *testing.T) {
	board := biosBoard()
	cases := map[string]struct {
		o    Options
		want string
	}{
		"no board":      {Options{Image: "a"}, "QEMU cannot play it"},
		"no image":      {Options{Board: board}, "neither an image nor a kernel"},
		"shift":         {Options{Board: board, Image: "a", Shift: 11}, "shift of 11"},
		"little memory": {Options{Board: board, Image: "a", Memory: 8}, "memory of 8 MiB"},
		"format":        {Options{Board: board, Image: "a", Format: "vdi"}, `format "vdi"`},
		"disk format":   {Options{Board: board, Image: "a", Disks: []Disk{{Format: "x"}}}, `format "x"`},
		"port":          {Options{Board: board, Image: "a", Network: Network{SSHPort: 70000}}, "ssh port 70000"},
		"tap and port": {Options{Board: board, Image: "a", Network: Network{SSHPort: 7, Tap: "tap0"}},
			"forwards no ports"},
		"two ways":          {Options{Board: board, Image: "a", Overlay: "b", Snapshot: true}, "exclude each other"},
		"several at once":   {Options{Memory: 8, CPUs: -1}, "-1 processors"},
		"faults of nothing": {Options{Board: board, Faults: []Fault{{}}}, "faults of the disk: they need an image"},
		"log of overlay": {Options{Board: board, Image: "a", Overlay: "b", WriteLog: "l"},
			"write log l: it records"},
		"lacking firmware": {Options{Board: withFirmware(board), Image: "a"}, "firmware files are missing"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Plan(c.o, "")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Plan = %v, want %q", err, c.want)
			}
		})
	}
}

func withFirmware(b boards.Board) boards.Board {
	b.Qemu.Firmware = []boards.QemuFirmware{{Kind: "bios", File: "x"}}
	return b
}
