// Package layout plans where everything is on the disk.
//
// It owns the order, place, size, type and identifiers of the partitions, and the check that each content fits. It
// never reads or writes a file. A Plan depends on its inputs alone; golden files hold its printed form. Read first:
// Plan.
package layout

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"resinos/mounts/disk"
)

// Labels of the partitions, in their order on the disk.
const (
	Boot  = "resin-boot"
	RootA = "resin-rootA"
	RootB = "resin-rootB"
	State = "resin-state"
	Data  = "resin-data"
)

// Alignment is the alignment of every partition, and the earliest start of the first one. The space before it is for
// boards whose bootloader is in raw sectors.
const Alignment = 4 * disk.MiB

// FileSystem is the kind of file system in a partition.
type FileSystem string

// The file systems in use. An empty slot has none.
const (
	FAT  FileSystem = "vfat"
	Ext4 FileSystem = "ext4"
	None FileSystem = ""
)

// fileSystems maps each known label to its file system.
var fileSystems = map[string]FileSystem{Boot: FAT, RootA: Ext4, RootB: None, State: Ext4, Data: Ext4}

// order is the order of the labels on the disk, on which boot scripts and the device rely.
var order = []string{Boot, RootA, RootB, State, Data}

// Wanted is one partition as the board's file describes it.
type Wanted struct {
	Label string
	Size  disk.Bytes
}

// Content describes what a partition will contain.
type Content struct {
	Digest  string     // of everything in it, as text
	Need    disk.Bytes // space that it needs, including that of the file system itself
	Largest string     // the largest file, for errors
}

// Request is everything that a Plan depends on.
type Request struct {
	File       string // the file that lists the partitions, for errors
	Partitions []Wanted
	Contents   map[string]Content // by label; a partition without one stays empty
}

// Partition is one partition of a Plan.
type Partition struct {
	Number     int        `json:"number"`
	Label      string     `json:"label"`
	FileSystem FileSystem `json:"file_system"`
	Start      disk.Bytes `json:"start"`
	Size       disk.Bytes `json:"size"`
	GUID       string     `json:"guid"` // of the partition
	UUID       string     `json:"uuid"` // of its file system
}

// Plan is the whole disk.
type Plan struct {
	GUID       string      `json:"guid"`
	Size       disk.Bytes  `json:"size"`
	Partitions []Partition `json:"partitions"`
}

// New plans the disk. All faults are reported at once.
func New(r Request) (Plan, error) {
	if err := check(r); err != nil {
		return Plan{}, err
	}
	p := Plan{}
	seed, next := "", Alignment
	for i, w := range r.Partitions {
		digest := r.Contents[w.Label].Digest
		p.Partitions = append(p.Partitions, Partition{
			Number: i + 1, Label: w.Label, FileSystem: fileSystems[w.Label], Start: next, Size: w.Size,
			GUID: GUID("partition", w.Label, digest), UUID: GUID("file system", w.Label, digest),
		})
		next += w.Size
		seed += fmt.Sprintln(w.Label, int64(w.Size), digest)
	}
	p.Size = next + Alignment // the second copy of the partition table is behind the last partition
	p.GUID = GUID("disk", seed)
	// An empty slot has no content for its identifier: derive that from the disk, so that two different images never
	// share it.
	for i := range p.Partitions {
		if part := &p.Partitions[i]; part.FileSystem == None {
			part.GUID = GUID("partition", part.Label, p.GUID)
			part.UUID = ""
		}
	}
	return p, nil
}

func check(r Request) error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %w", r.File, fmt.Errorf(format, args...)))
	}
	if len(r.Partitions) != len(order) {
		fault("%d partitions, want %s", len(r.Partitions), strings.Join(order, ", "))
	}
	for i, w := range r.Partitions {
		c := r.Contents[w.Label]
		switch {
		case i < len(order) && w.Label != order[i]:
			fault("partition %d is %q, want %q", i+1, w.Label, order[i])
		case w.Size <= 0 || w.Size%Alignment != 0:
			fault("partition %s: size %s is not a multiple of %s", w.Label, w.Size, Alignment)
		case c.Need > w.Size:
			fault("partition %s: its content needs %d MiB, it has %d MiB (largest: %s); enlarge it in this file or "+
				"leave something out",
				w.Label, (c.Need+disk.MiB-1)/disk.MiB, w.Size/disk.MiB, c.Largest)
		case w.Label == RootB && r.size(RootA) != w.Size:
			fault("partition %s: %s, but %s has %s; both slots must have one size", w.Label, w.Size, RootA,
				r.size(RootA))
		}
	}
	return errors.Join(faults...)
}

func (r Request) size(label string) disk.Bytes {
	for _, w := range r.Partitions {
		if w.Label == label {
			return w.Size
		}
	}
	return 0
}

// Partition returns the partition with a label.
func (p Plan) Partition(label string) (Partition, bool) {
	for _, part := range p.Partitions {
		if part.Label == label {
			return part, true
		}
	}
	return Partition{}, false
}

// String returns the plan as a table.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "disk %s, %s\n", p.GUID, p.Size)
	for _, part := range p.Partitions {
		kind := part.FileSystem
		if kind == None {
			kind = "-"
		}
		fmt.Fprintf(&b, "%d  %-11s  %-4s  at %8s  size %8s  guid %s  uuid %s\n",
			part.Number, part.Label, kind, part.Start, part.Size, part.GUID, part.UUID)
	}
	return b.String()
}

// GUID derives an identifier from text: the same text always gives the same identifier.
func GUID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	sum[6] = sum[6]&0x0f | 0x80 // RFC 9562: version 8, a rule of our own
	sum[8] = sum[8]&0x3f | 0x80 // RFC 9562: variant
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
