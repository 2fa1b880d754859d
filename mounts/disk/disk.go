// Package disk reads disks and partitions from sysfs and partition tables: it turns block devices into typed values and
// finds the partition with a name or UUID, and its disk.
//
// It never writes to a disk, and never looks for a partition name on a disk other than the given one. Read Partition
// first.
package disk

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The partition names of every image, in the order on the disk.
const (
	Boot  = "resin-boot"
	RootA = "resin-rootA"
	RootB = "resin-rootB"
	State = "resin-state"
	Data  = "resin-data"
)

// mbrNumber is the number of each partition on a disk whose table has no names (MBR); 4 is the extended partition.
var mbrNumber = map[string]int{Boot: 1, RootA: 2, RootB: 3, State: 5, Data: 6}

// Partition is one partition as the kernel sees it.
type Partition struct {
	Device string // kernel name, such as vda2
	Disk   string // kernel name of the disk that holds it
	Number int    // place in the partition table, from 1
	Label  string // partition name; empty on MBR
	UUID   string // PARTUUID, lower case; empty until Identify where sysfs does not have it
	Start  Bytes  // offset on the disk
	Size   Bytes
	Path   string // device path below sysfs, such as devices/pci0000:00/0000:00:03.0/virtio0/block/vda/vda2
	Major  uint32
	Minor  uint32
}

// Node is the path of the device node.
func (p Partition) Node() string { return "/dev/" + p.Device }

// Read lists the partitions below the given sysfs root ("/sys"), ordered by disk path and number. It skips a device
// that disappears meanwhile.
func Read(sysfs string) ([]Partition, error) {
	dir := filepath.Join(sysfs, "class/block")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list block devices: %w", err)
	}
	root, err := filepath.EvalSymlinks(sysfs)
	if err != nil {
		return nil, fmt.Errorf("resolve sysfs: %w", err)
	}
	var found []Partition
	for _, e := range entries {
		if p, ok := readPartition(root, filepath.Join(dir, e.Name())); ok {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b Partition) int {
		return cmp.Or(strings.Compare(filepath.Dir(a.Path), filepath.Dir(b.Path)), cmp.Compare(a.Number, b.Number))
	})
	return found, nil
}

func readPartition(root, link string) (Partition, bool) {
	text, err := os.ReadFile(filepath.Join(link, "uevent"))
	if err != nil {
		return Partition{}, false
	}
	p, ok := ParseUevent(text)
	if !ok {
		return Partition{}, false // a disk: most that the kernel lists are empty loop devices
	}
	// Not EvalSymlinks, which looks at each part of the path: this link leads to a directory at once.
	to, err := os.Readlink(link)
	if err != nil {
		return Partition{}, false
	}
	real := filepath.Join(root, "class/block", to)
	path, err := filepath.Rel(root, real)
	if err != nil {
		return Partition{}, false
	}
	p.Path = path
	p.Disk = filepath.Base(filepath.Dir(real))
	// The kernel counts in sectors of 512 bytes here, whatever the disk's own sector size is.
	p.Start = 512 * readNumber(filepath.Join(real, "start"))
	p.Size = 512 * readNumber(filepath.Join(real, "size"))
	return p, true
}

func readNumber(path string) Bytes {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0 // the device is disappearing; nothing fits a size of 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 54)
	if err != nil || n < 0 {
		return 0
	}
	return Bytes(n)
}

// ParseUevent reads the uevent file of a block device; ok is false if that is not a partition.
func ParseUevent(text []byte) (p Partition, ok bool) {
	isPartition := false
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch key {
		case "DEVTYPE":
			isPartition = value == "partition"
		case "DEVNAME":
			p.Device = value
		case "PARTNAME":
			p.Label = value
		case "PARTUUID":
			p.UUID = strings.ToLower(value)
		case "PARTN":
			p.Number, _ = strconv.Atoi(value) // garbage gives 0, which nobody looks up
		case "MAJOR":
			p.Major = parseDevice(value)
		case "MINOR":
			p.Minor = parseDevice(value)
		}
	}
	return p, isPartition && p.Device != "" && p.Number > 0
}

func parseDevice(text string) uint32 {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// ByUUID returns all partitions with that PARTUUID: more than one if a disk was cloned.
func ByUUID(all []Partition, uuid string) []Partition {
	var found []Partition
	for _, p := range all {
		if p.UUID != "" && strings.EqualFold(p.UUID, uuid) {
			found = append(found, p)
		}
	}
	return found
}

// ByDevice returns the partition with that device number.
func ByDevice(all []Partition, major, minor uint32) (Partition, bool) {
	i := slices.IndexFunc(all, func(p Partition) bool { return p.Major == major && p.Minor == minor })
	if i < 0 {
		return Partition{}, false
	}
	return all[i], true
}

// OnDisk returns the partition called label on the given disk, never one on another disk. If the table of the disk has
// no names, it uses the number that the image builder gives that label.
func OnDisk(all []Partition, disk, label string) (Partition, bool) {
	named := false
	for _, p := range all {
		if p.Disk != disk {
			continue
		}
		if p.Label == label {
			return p, true
		}
		named = named || p.Label != ""
	}
	if named || mbrNumber[label] == 0 {
		return Partition{}, false
	}
	i := slices.IndexFunc(all, func(p Partition) bool { return p.Disk == disk && p.Number == mbrNumber[label] })
	if i < 0 {
		return Partition{}, false
	}
	return all[i], true
}

// Geometry returns the size of a logical sector and of the whole disk of a partition.
func Geometry(sysfs string, p Partition) (sector, size Bytes) {
	path := filepath.Join(sysfs, filepath.Dir(p.Path))
	sector = readNumber(filepath.Join(path, "queue/logical_block_size"))
	if sector < 512 || sector > 64*KiB {
		sector = 512
	}
	return sector, 512 * readNumber(filepath.Join(path, "size"))
}
