package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"

	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/grow"
)

// runGrow does, while containers run already, what the disk needs once: table repaired, data partition as large as the disk allows,
// identifiers that no other device has. Mostly it finds all of that done.
func runGrow(_ context.Context, args []string, log *slog.Logger) error {
	d := grow.Device{Sys: "/sys", Dev: "/dev", Log: log}
	if err := parse("grow", args, func(*flag.FlagSet) {}); err != nil {
		return err
	}
	var err error
	if d.Mounts, err = attach.ReadMounts(); err != nil {
		return err
	}
	if d.Partitions, err = disk.Read(d.Sys); err != nil {
		return err
	}
	slot, found := attach.At(d.Mounts, "/mnt/sysroot")
	if !found {
		return errors.New("find disk: nothing is attached at /mnt/sysroot")
	}
	part, found := disk.ByDevice(d.Partitions, slot.Major, slot.Minor)
	if !found {
		return errors.New("find disk: the slot lies on no partition")
	}
	d.Disk = part.Disk
	return d.Run()
}
