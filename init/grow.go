package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"time"

	"resinos/bsp/slot"
	"resinos/init/partition"
	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/fsck"
	"resinos/mounts/grow"
	"resinos/services/bootreport"
	"resinos/services/boottime"
	"resinos/services/pid1"
)

// runGrow completes the disk while containers run already: it repairs the partition table, grows the data partition to
// the size of the disk, gives the file systems identifiers of their own, and checks the slot if the kernel has found a
// fault in it. In most boots nothing of this is needed.
func runGrow(ctx context.Context, args []string, log *slog.Logger) error {
	d := grow.Device{Sys: "/sys", Dev: "/dev", Log: log}
	if err := parse("grow", args, func(*flag.FlagSet) {}); err != nil {
		return err
	}
	if err := afterContainers(ctx); err != nil {
		return err
	}
	var err error
	if d.Mounts, err = attach.ReadMounts(); err != nil {
		return err
	}
	if d.Partitions, err = disk.Read(d.Sys); err != nil {
		return err
	}
	mount, found := attach.At(d.Mounts, slot.Target)
	if !found {
		return fmt.Errorf("find disk: nothing is attached at %s", slot.Target)
	}
	part, found := disk.ByDevice(d.Partitions, mount.Major, mount.Minor)
	if !found {
		return errors.New("find disk: the slot lies on no partition")
	}
	d.Disk = part.Disk
	return errors.Join(recheck(ctx, part, log), d.Run())
}

// recheckPatience is far more than e2fsck needs for the few files of a slot.
const recheckPatience = 10 * time.Minute

// recheck handles the mark of a fault on the slot that the device runs from. The slot cannot be repaired, because it is
// read-only and in use.
func recheck(ctx context.Context, slot disk.Partition, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, recheckPatience)
	defer cancel()
	said, err := fsck.Recheck(ctx, partition.RunTool, slot.Node())
	if err != nil {
		return fmt.Errorf("%s: %w; try: osctl verify, and install the system again", slot.Label, err)
	}
	if said != "" {
		log.Warn("slot checked", "partition", slot.Label, "reason", said)
	}
	return nil
}

// growAfter is the time since the kernel's start at which grow begins even if no container has written a line yet.
const growAfter = 90 * time.Second

// afterContainers returns at the first output of a container, so that no container waits for the disk, or after
// growAfter.
func afterContainers(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for boottime.Now() < growAfter {
		report, err := pid1.Client{}.Boot(ctx)
		if err != nil {
			return err
		}
		if report.Milestones[bootreport.MilestoneContainerOutput] > 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
