// Package partition attaches the partitions of the device for PID 1: it repairs a file system that is damaged, sets
// aside or replaces one that is beyond repair, purges one that its owner has marked, and limits how much of data
// containers may use. Where a partition cannot be attached a tmpfs stands in for it: the boot never waits and never
// ends here. Read Attacher first.
package partition

import (
	"log/slog"

	"resinos/mounts/attach"
	"resinos/mounts/disk"
)

// Loader loads a kernel module and all it needs.
type Loader interface {
	Load(name, params string) error
}

// Disk is the disk that the device runs from.
type Disk struct {
	Name       string           // the kernel's; empty when unknown
	Partitions []disk.Partition // of all disks
}

// Attacher attaches partitions, and remembers which of them it had to repair.
type Attacher struct {
	Log     *slog.Logger
	Modules func() (Loader, error) // opens the loader; called only when a module is needed

	repaired []string // labels of the file systems
}

// Target is where a partition is attached, by its label.
func Target(label string) string { return places(label).entry.Target }

// place is where one of our partitions is attached on the real root.
type place struct {
	label   string
	entry   attach.Entry
	standIn string // options of the tmpfs that takes its place when it is missing or corrupt
}

// places names the partitions that PID 1 attaches. errors=remount-ro: a file system that finds itself damaged stops
// being written.
func places(label string) place {
	switch label {
	case disk.State:
		return place{label, attach.Entry{Name: "state", Target: "/mnt/state", Type: "ext4",
			Flags: []string{"nosuid", "nodev", "noexec",
				"noatime"}, Options: "errors=remount-ro"}, "mode=0755,size=16m"}
	case disk.Data:
		// Containers run programs, setuid ones too, from here. Their devices are on a tmpfs of each of them.
		return place{label, attach.Entry{Name: "data", Target: "/mnt/data", Type: "ext4",
			Flags: []string{"nodev",
				"noatime"}, Options: "errors=remount-ro,resuid=" + reservedFor}, "mode=0755,size=50%"}
	}
	// flush writes FAT out soon after a file is closed, without making each write wait for the disk as sync would.
	return place{disk.Boot, attach.Entry{Name: "boot", Target: "/mnt/boot", Type: "vfat",
		Flags: []string{"nosuid", "nodev", "noexec",
			"noatime"}, Options: "flush,dmask=0077,fmask=0177,errors=remount-ro"}, "mode=0700,size=4m"}
}

// reservedFor is a user that does not exist. The blocks that ext4 holds back are for that user and for those who may
// exceed limits (CAP_SYS_RESOURCE): the system's own processes. By default they are root's, and so are most containers;
// overlayfs, through which they write, never exceeds limits.
const reservedFor = "4294967294"

// entry is the mount of the place with its partition filled in.
func (p place) at(part disk.Partition) attach.Entry {
	e := p.entry
	e.Source = part.Node()
	return e
}

// replacement is the tmpfs that stands in for the partition.
func (p place) replacement() attach.Entry {
	return attach.Entry{Name: p.entry.Name, Target: p.entry.Target, Type: "tmpfs", Flags: []string{"nosuid", "nodev"},
		Options: p.standIn}
}
