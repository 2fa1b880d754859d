package boot

import (
	"resinos/init/cmdline"
	"resinos/init/limits"
	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/persist"
	"resinos/services/bootreport"
	"resinos/services/settings"
	"resinos/services/sysctl"
)

// Inputs is everything that decides how the real root boots.
type Inputs struct {
	Variant    string
	Cmdline    cmdline.Line
	Config     settings.Settings // of config.json
	Pseudo     []attach.Entry
	Binds      []persist.Bind
	Sysctls    []sysctl.Setting
	Shares     []limits.Step // what containers get of the counts that they share with the system
	Partitions []disk.Partition
	Disk       string   // kernel name of the disk that carries the slot; empty when unknown
	Services   []string // names, in order of loading
}

// Plan says what a boot with these inputs does, without doing it. It is pure; the real boot carries out the same deeds.
func Plan(in Inputs) []bootreport.PlannedStep {
	table := steps()
	planned := make([]bootreport.PlannedStep, len(table))
	for i, s := range table {
		planned[i] = bootreport.PlannedStep{Name: s.name, Severity: s.severity, Does: []string{}}
		for _, d := range s.deeds(in) {
			planned[i].Does = append(planned[i].Does, d.does...)
		}
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
