package disk

import (
	"fmt"
	"strings"
)

// Choose selects the partition to boot from among several with the same UUID: the one on the disk that the firmware
// booted from, if hint leads to exactly one of them, else the first in the order of device paths. The warning is empty
// if there was only one.
func Choose(same []Partition, hint DevicePath) (chosen Partition, warning string, err error) {
	if len(same) == 0 {
		return Partition{}, "", fmt.Errorf("choose partition: none has the wanted UUID")
	}
	if len(same) == 1 {
		return same[0], "", nil
	}
	var booted []Partition
	for _, p := range same {
		if hint.Leads(p.Path) {
			booted = append(booted, p)
		}
	}
	reason := "first device path"
	chosen = same[0]
	if len(booted) == 1 {
		reason, chosen = "the firmware booted from this disk", booted[0]
	}
	names := make([]string, len(same))
	for i, p := range same {
		names[i] = p.Device
	}
	return chosen, fmt.Sprintf("partitions %s have the same UUID %s: using %s (%s)",
		strings.Join(names, ", "), chosen.UUID, chosen.Device, reason), nil
}
