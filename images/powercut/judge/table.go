package judge

import (
	"context"
	"fmt"
	"os"

	"resinos/images/assemble"
	"resinos/images/powercut/recording"
	"resinos/mounts/disk"
)

// A Table judges the partition table: the device must find every partition that it had in the beginning, by the same
// identifiers, in the first table or in its copy.
type Table struct {
	UUIDs map[int]string // by number
}

// FactTable is the fact of the size of a partition, in bytes; it is told of the tables that can be read whole.
func FactTable(label string) string { return "table " + label }

// Region is the partition table.
func (t Table) Region() string { return PartitionTable }

// Judge reads the table as the device does (mounts/disk), and as the image builder does, which knows the sizes.
func (t Table) Judge(_ context.Context, file string) (Verdict, error) {
	f, err := os.Open(file)
	if err != nil {
		return Verdict{}, err
	}
	defer f.Close() // read only: closing cannot lose anything
	stat, err := f.Stat()
	if err != nil {
		return Verdict{}, err
	}
	uuids, err := disk.ReadUUIDs(f, recording.SectorSize, disk.Bytes(stat.Size()))
	if err != nil {
		return Verdict{Class: "unreadable", Bad: err.Error()}, nil
	}
	v := Verdict{Class: "readable", Facts: map[string]string{}}
	for number, uuid := range t.UUIDs {
		if uuids[number] != uuid {
			v.Bad = fmt.Sprintf("partition %d is %q, not %q", number, uuids[number], uuid)
		}
	}
	plan, err := assemble.ReadTable(file)
	if err != nil {
		v.Class = "read from its copy"
		return v, nil
	}
	for _, p := range plan.Partitions {
		v.Facts[FactTable(p.Label)] = fmt.Sprint(int64(p.Size))
	}
	return v, nil
}

// Untouched is the judge of a region that nobody may write to. Digest is that of its first content.
type Untouched struct{ Partition, Digest string }

// Region is the partition.
func (u Untouched) Region() string { return u.Partition }

// Judge compares.
func (u Untouched) Judge(_ context.Context, file string) (Verdict, error) {
	now, err := digestFile(file)
	if err != nil || now == u.Digest {
		return Verdict{Class: "untouched"}, err
	}
	return Verdict{Class: "written to", Bad: "it was written to"}, nil
}
