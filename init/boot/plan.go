package boot

import (
	"fmt"
	"strings"

	"resinos/init/limits"
	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/persist"
	"resinos/mounts/quota"
	"resinos/services/bootreport"
	"resinos/services/settings"
)

// Inputs is everything that decides how the real root boots.
type Inputs struct {
	Variant    string
	Cmdline    Cmdline
	Config     settings.Settings // of config.json
	Pseudo     []attach.Entry
	Binds      []persist.Bind
	Sysctls    []Sysctl
	Shares     []limits.Step // what containers get of the counts that they share with the system
	Partitions []disk.Partition
	Disk       string   // kernel name of the disk that carries the slot; empty when unknown
	Services   []string // names, in order of loading
}

// Plan says what a boot with these inputs does, without doing it. It is pure; the same table drives the real boot.
func Plan(in Inputs) []bootreport.PlannedStep {
	table := steps()
	planned := make([]bootreport.PlannedStep, len(table))
	for i, s := range table {
		planned[i] = bootreport.PlannedStep{Name: s.name, Severity: s.severity, Does: s.plan(in)}
	}
	return planned
}

// place is where one of our partitions is attached on the real root.
type place struct {
	label   string
	entry   attach.Entry
	standIn string // options of the tmpfs that takes its place when it is missing or corrupt
}

// places names the partitions that PID 1 attaches. errors=remount-ro: a file system that finds itself damaged stops being written.
func places(label string) place {
	switch label {
	case disk.State:
		return place{label, attach.Entry{Name: "state", Target: "/mnt/state", Type: "ext4",
			Flags: []string{"nosuid", "nodev", "noexec", "noatime"}, Options: "errors=remount-ro"}, "mode=0755,size=16m"}
	case disk.Data:
		// Containers run programs, setuid ones too, from here.
		return place{label, attach.Entry{Name: "data", Target: "/mnt/data", Type: "ext4",
			Flags: []string{"noatime"}, Options: "errors=remount-ro,resuid=" + nobodys}, "mode=0755,size=50%"}
	}
	// flush writes FAT out soon after a file is closed, without making each write wait for the disk as sync would.
	return place{disk.Boot, attach.Entry{Name: "boot", Target: "/mnt/boot", Type: "vfat",
		Flags: []string{"nosuid", "nodev", "noexec", "noatime"}, Options: "flush,umask=0077,errors=remount-ro"}, "mode=0700,size=4m"}
}

// nobodys is a user that nobody is. The blocks that ext4 holds back are for that user and for who may exceed limits (CAP_SYS_RESOURCE): the
// system's own processes. By default they are root's, and so are most containers; overlayfs, through which they write, never
// exceeds limits.
const nobodys = "4294967294"

// entry is the mount of the place with its partition filled in.
func (p place) at(part disk.Partition) attach.Entry {
	e := p.entry
	e.Source = part.Node()
	return e
}

// replacement is the tmpfs that stands in for the partition.
func (p place) replacement() attach.Entry {
	return attach.Entry{Name: p.entry.Name, Target: p.entry.Target, Type: "tmpfs", Flags: []string{"nosuid", "nodev"}, Options: p.standIn}
}

func planPlace(label string) func(Inputs) []string {
	return func(in Inputs) []string {
		p := places(label)
		part, found := disk.OnDisk(in.Partitions, in.Disk, label)
		if !found {
			return []string{fmt.Sprintf("%s is not on disk %q: %v", label, in.Disk, p.replacement())}
		}
		lines := []string{p.at(part).String(), "if it is damaged: repair it first", "if that fails: " + p.replacement().String()}
		if label == disk.State {
			lines[1] = "if it is damaged: repair it first; beyond repair: copy it to " + asideDir + " and begin with an empty one"
		}
		return lines
	}
}

func planLimit(Inputs) []string {
	target, lines := places(disk.Data).entry.Target, []string(nil)
	for _, name := range quota.Folders() {
		lines = append(lines, fmt.Sprintf("count what is in %s/%s as the containers'", target, name))
	}
	return append(lines, "hold them to the file system without the system's part, in blocks and in files", "if that cannot be counted: repair the file system first; if it keeps no quotas: say so")
}

func planShares(in Inputs) []string {
	lines := []string{"lift the limits for each user on processes and on pending signals: containers share their users with the system"}
	for _, step := range in.Shares {
		lines = append(lines, fmt.Sprintf("%s/%v", limits.Group, step))
	}
	return lines
}

func planPseudo(in Inputs) []string {
	lines := make([]string, len(in.Pseudo))
	for i, e := range in.Pseudo {
		lines[i] = e.String()
	}
	return lines
}

func planBinds(in Inputs) []string {
	lines := make([]string, len(in.Binds))
	for i, b := range in.Binds {
		lines[i] = b.String()
	}
	return lines
}

func planSysctls(in Inputs) []string {
	lines := make([]string, len(in.Sysctls))
	for i, s := range in.Sysctls {
		lines[i] = s.Key + " = " + s.Value
	}
	return lines
}

func planLocate(in Inputs) []string {
	return []string{fmt.Sprintf("slot %s of disk %q, by the device attached at %s", in.Cmdline.Slot, in.Disk, slotTarget)}
}

func planServices(in Inputs) []string {
	return []string{"load " + strings.Join(in.Services, ", ")}
}

func planText(lines ...string) func(Inputs) []string { return func(Inputs) []string { return lines } }
