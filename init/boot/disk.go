package boot

import (
	"errors"
	"fmt"

	"resinos/bsp/slot"
	"resinos/init/cmdline"
	"resinos/init/partition"
	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/persist"
)

// findDisk finds the disk that the device runs from: the one whose partition is attached as the slot. All other
// partitions are taken from this disk, whatever the labels on other disks.
func (s *System) findDisk() error {
	line, err := cmdline.Read()
	s.Cmdline = line
	if err != nil {
		s.env.Log.Warn("command line is damaged", "error", err) // its name is only shown to people
	}
	have, err := attach.ReadMounts()
	if err != nil {
		return err
	}
	mount, found := attach.At(have, slot.Target)
	if !found {
		return fmt.Errorf("find disk: nothing is attached at %s", slot.Target)
	}
	if s.Partitions, err = disk.Read("/sys"); err != nil {
		return err
	}
	part, found := disk.ByDevice(s.Partitions, mount.Major, mount.Minor)
	if !found {
		return fmt.Errorf("find disk: no partition is device %d:%d", mount.Major, mount.Minor)
	}
	s.Disk = part.Disk
	s.env.Record.Locate(line.Slot, part.Disk)
	return nil
}

func diskDeeds(in Inputs) []deed {
	return []deed{{does: []string{fmt.Sprintf("slot %s of disk %q, by the device attached at %s", in.Cmdline.Slot,
		in.Disk, slot.Target)}}}
}

// on returns the disk that findDisk found.
func (in Inputs) on() partition.Disk { return partition.Disk{Name: in.Disk, Partitions: in.Partitions} }

func attachDeeds(label string) func(Inputs) []deed {
	return func(in Inputs) []deed {
		do := func(s *System) error { return s.attacher.Attach(in.on(), label) }
		return []deed{{partition.AttachPlan(in.on(), label), do}}
	}
}

func purgeDeeds(label string) func(Inputs) []deed {
	return one(func(s *System) error { return s.attacher.Purge(label) }, partition.PurgePlan(label)...)
}

func limitDeeds(in Inputs) []deed {
	return []deed{{partition.LimitPlan(), func(s *System) error { return s.attacher.LimitContainers(in.on()) }}}
}

func (s *System) lookAtBinds() (err error) {
	s.Binds, err = persist.Table()
	return err
}

// bindDeeds is one deed for all binds, because they are made below one open root.
func bindDeeds(in Inputs) []deed {
	return []deed{{printed(in.Binds), func(*System) error {
		root, err := persist.Open(partition.Target(disk.State), "/")
		if err != nil {
			return err
		}
		defer root.Close()
		var faults []error
		for _, b := range in.Binds {
			faults = append(faults, root.Apply(b))
		}
		return errors.Join(faults...)
	}}}
}
