package judge

import (
	"fmt"
	"slices"

	"resinos/images/assemble"
	"resinos/images/layout"
)

// A Region is what a judge looks at: a partition, or the partition table.
type Region struct {
	Name   string
	Ranges []Span // of the disk, in bytes, whole sectors
	Base   int64  // the byte of the disk that is byte 0 of the region's file
	Size   int64  // of that file
}

// A Span is a part of a disk, in bytes; End is behind it.
type Span struct{ Start, End int64 }

// tableRoom is how much at both ends of a disk counts as the partition table: the first partition begins later, and the
// copy of the table takes 33 sectors.
const tableRoom = 1 << 20

// Regions cuts a disk into what judges look at, by the partition table of its image. The last partition may grow: its
// region reaches to where the copy of the table belongs.
func Regions(image string, size int64) ([]Region, error) {
	plan, err := assemble.ReadTable(image)
	if err != nil {
		return nil, err
	}
	if len(plan.Partitions) == 0 {
		return nil, fmt.Errorf("read partitions of %s: there are none", image)
	}
	parts := slices.SortedFunc(slices.Values(plan.Partitions),
		func(a, b layout.Partition) int { return int(a.Number - b.Number) })
	all := []Region{{PartitionTable, []Span{{0, int64(parts[0].Start)}, {size - tableRoom, size}}, 0, size}}
	for i, p := range parts {
		part := Span{int64(p.Start), size - tableRoom}
		if i+1 < len(parts) {
			part.End = int64(parts[i+1].Start)
		}
		all = append(all, Region{p.Label, []Span{part}, part.Start, part.End - part.Start})
	}
	return all, nil
}
