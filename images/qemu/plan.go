package qemu

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// A Command is the command line that Plan has computed. Paths below Plan's dir belong to one run of QEMU and do not
// exist before Start creates them.
type Command struct {
	Program   string
	Arguments []string
}

// String prints the command with one option per line.
func (c Command) String() string {
	var b strings.Builder
	b.WriteString(c.Program)
	for _, a := range c.Arguments {
		if strings.HasPrefix(a, "-") {
			b.WriteString("\n ")
		}
		b.WriteString(" " + a)
	}
	return b.String() + "\n"
}

// varsFile is the private copy of the firmware's variables in the directory of a run.
const varsFile = "vars.fd"

// qmpDescriptor is the file descriptor of QEMU's end of the monitor's socket, which it inherits.
const qmpDescriptor = 3

// Plan turns options into a command line. directory is the private directory of the run. All faults are reported at
// once.
func Plan(o Options, dir string) (Command, error) {
	if err := check(o); err != nil {
		return Command{}, err
	}
	q := o.Board.Qemu
	args := []string{
		"-name", o.Board.Name,
		"-machine", q.Machine,
		"-cpu", q.CPU,
		"-accel", accelerator(o),
		"-smp", fmt.Sprint(max(o.CPUs, 1)),
		"-m", fmt.Sprint(memory(o)),
		"-nodefaults", "-no-user-config",
		"-display", "none",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", qmpDescriptor), "-mon", "chardev=qmp,mode=control",
		"-action", "watchdog=reset",
	}
	if o.Shift != 0 {
		args = append(args, "-icount", fmt.Sprintf("shift=%d", o.Shift))
	}
	if o.NoReboot {
		args = append(args, "-no-reboot")
	}
	args = append(args, starter(o, dir)...)
	args = append(args, disks(o)...)
	args = append(args, network(o)...)
	for _, d := range append(append([]string{}, q.Devices...), o.Devices...) {
		args = append(args, "-device", d)
	}
	return Command{Program: q.System, Arguments: append(args, o.Arguments...)}, nil
}

// accelerator returns TCG with one thread for each processor, or with a single one if instructions are counted.
func accelerator(o Options) string {
	if o.Shift != 0 {
		return "tcg,thread=single,tb-size=256"
	}
	return "tcg,thread=multi,tb-size=256"
}

func memory(o Options) int {
	if o.Memory == 0 {
		return DefaultMemory
	}
	return o.Memory
}

func check(o Options) error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(o.Board.Qemu.System == "", "run board %q: QEMU cannot play it", o.Board.Name)
	fault(o.Image == "" && o.Kernel == nil, "run board %q: neither an image nor a kernel", o.Board.Name)
	fault(o.Kernel == nil && len(o.Firmware) == 0 && len(o.Board.Qemu.Firmware) > 0,
		"run board %q: its firmware files are missing", o.Board.Name)
	fault(o.Memory < 0 || o.Memory > 0 && o.Memory < 64, "memory of %d MiB: want 64 or more", o.Memory)
	fault(o.CPUs < 0, "%d processors: want 1 or more", o.CPUs)
	fault(o.Shift < 0 || o.Shift > 10, "shift of %d: want 0 to 10", o.Shift)
	fault(o.Snapshot && o.Overlay != "", "snapshot and overlay exclude each other")
	fault(o.WriteLog != "" && (o.Snapshot || o.Overlay != "" || o.Image == "" || o.Format == "qcow2"),
		"write log %s: it records the writes to a raw image, without snapshot or overlay", o.WriteLog)
	fault(len(o.Faults) > 0 && (o.Snapshot || o.Image == "" || o.WriteLog != ""),
		"faults of the disk: they need an image, and neither snapshot nor write log")
	fault(o.Overlay != "" && o.Image == "", "overlay %s: no image below it", o.Overlay)
	fault(o.Network.SSHPort < 0 || o.Network.SSHPort > 65535, "ssh port %d: want 1 to 65535", o.Network.SSHPort)
	fault(o.Network.Tap != "" && o.Network.SSHPort != 0, "ssh port %d: a tap link forwards no ports", o.Network.SSHPort)
	for _, f := range append([]string{o.Format}, formats(o.Disks)...) {
		fault(f != "" && f != "raw" && f != "qcow2", "image format %q: want raw or qcow2", f)
	}
	return errors.Join(faults...)
}

func formats(list []Disk) []string {
	var out []string
	for _, d := range list {
		out = append(out, d.Format)
	}
	return out
}

// starter returns the options for what runs first: the firmware, a kernel without firmware, or a kernel that the
// firmware gets from QEMU.
func starter(o Options, dir string) []string {
	var args []string
	if k := o.Kernel; k != nil {
		args = append(args, "-kernel", k.Image, "-append", k.CommandLine)
		if k.Initramfs != "" {
			args = append(args, "-initrd", k.Initramfs)
		}
		if !k.ByFirmware {
			return args
		}
	}
	for _, f := range o.Firmware {
		switch f.Kind {
		case "bios":
			args = append(args, "-bios", f.Path)
		case "pflash":
			args = append(args, "-drive", "if=pflash,format=raw,readonly=on,file="+escape(f.Path))
		case "pflash-vars":
			args = append(args, "-drive", "if=pflash,format=raw,file="+escape(filepath.Join(dir, varsFile)))
		}
	}
	return args
}

// disks returns the image and the further disks. Only the image has a boot index: the firmware then tries nothing else.
func disks(o Options) []string {
	var args []string
	add := func(id string, d Disk, device string) {
		format := d.Format
		if format == "" {
			format = "raw"
		}
		drive := fmt.Sprintf("if=none,id=%s,format=%s,file=%s", id, format, escape(d.Path))
		if d.ReadOnly {
			drive += ",readonly=on"
		}
		if d.Snapshot {
			drive += ",snapshot=on,cache=unsafe" // nobody reads what is written after QEMU has ended
		}
		args = append(args, "-drive", drive, "-device", device)
	}
	model := o.Board.Qemu.Disk
	if o.WriteLog != "" {
		args = append(args, recordedDisk(o, model)...)
	} else if o.Image != "" {
		d := Disk{Path: o.Image, Format: o.Format, Snapshot: o.Snapshot}
		if o.Overlay != "" {
			d = Disk{Path: o.Overlay, Format: "qcow2"}
		}
		if len(o.Faults) > 0 {
			args = append(args, faultyDisk(d, o.Faults, model)...)
		} else {
			add("disk0", d, model+",drive=disk0,bootindex=0")
		}
	}
	for i, d := range o.Disks {
		id := fmt.Sprintf("disk%d", i+1)
		add(id, d, model+",drive="+id)
	}
	return args
}

// network returns the link. An empty romfile keeps UEFI firmware from loading a network boot ROM.
func network(o Options) []string {
	n := o.Network
	if n.None {
		return []string{"-nic", "none"}
	}
	backend := "user,id=net0"
	if n.Tap != "" {
		backend = "tap,id=net0,script=no,downscript=no,ifname=" + escape(n.Tap)
	} else if n.SSHPort != 0 {
		backend += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", n.SSHPort, GuestSSH)
	}
	mac := n.MAC
	if mac == "" {
		mac = DefaultMAC
	}
	return []string{"-netdev", backend, "-device", o.Board.Qemu.Network + ",netdev=net0,romfile=,mac=" + mac}
}

// escape doubles commas, which separate the parts of a QEMU option.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }
