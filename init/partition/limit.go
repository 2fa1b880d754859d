package partition

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/ext4"
	"resinos/mounts/quota"
)

// LimitPlan prints what LimitContainers does.
func LimitPlan() []string {
	var lines []string
	for _, name := range quota.Directories() {
		lines = append(lines, fmt.Sprintf("count what is in %s/%s as the containers'", Target(disk.Data), name))
	}
	return append(lines,
		"hold them to the file system without the system's part, in blocks and in files",
		"if that cannot be counted: repair the file system first; if it keeps no quotas: say so")
}

// LimitContainers keeps a part of data for the system: what containers write is counted, and bounded. A damaged count
// shows only when it is used, and the kernel then stops to write the file system: it is repaired now, while nothing
// uses it.
func (s *Attacher) LimitContainers(on Disk) error {
	err := s.limit(Target(disk.Data))
	if !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EUCLEAN) {
		return err
	}
	s.Log.Warn("use of containers cannot be counted", "partition", disk.Data, "error", err)
	if fault := unix.Unmount(Target(disk.Data), 0); fault != nil {
		return errors.Join(err, fmt.Errorf("detach %s for a repair: %w", disk.Data, fault))
	}
	if err := s.Attach(on, disk.Data); err != nil {
		return err
	}
	return s.limit(Target(disk.Data))
}

func (s *Attacher) limit(target string) error {
	have, err := attach.ReadMounts()
	if err != nil {
		return err
	}
	m, there := attach.At(have, target)
	switch {
	case !there || m.Type != "ext4":
		return nil // the boot has said what stands in
	case !quota.On(m.Super):
		s.Log.Warn("containers are not limited", "path", target, "reason",
			"the file system keeps no quotas: an image made it that knew none")
		return nil
	}
	changed, faults := quota.Tag(target)
	limit, renewed, err := quota.Limit(target)
	if err == nil && (renewed || changed > 0) {
		s.Log.Info("containers are limited", "path", target, "size", int64(limit.Space), "count", limit.Files)
	}
	return errors.Join(faults, err)
}

// mount attaches a file system. One that counts what projects use is told to hold them to their limits, for which the
// kernel needs a module; the kernel would ask modprobe for it, which takes a process more.
func (s *Attacher) mount(entry attach.Entry) error {
	if !counts(entry) {
		return attach.Apply(entry)
	}
	entry.Options += "," + quota.Option
	lacks := s.Load(quota.Module)
	err := attach.Apply(entry)
	if err != nil && lacks != nil {
		// A kernel that cannot count does not write such a file system at all. That is no fault of the disk, so the
		// reason is not wrapped.
		return fmt.Errorf("%v: the file system keeps quotas, for which this kernel lacks a module: %w", err, lacks)
	}
	return err
}

// counts reports whether an ext4 keeps count of what projects use. What cannot be read is for the mount to say.
func counts(entry attach.Entry) bool {
	if entry.Type != "ext4" {
		return false
	}
	f, err := os.Open(entry.Source)
	if err != nil {
		return false
	}
	defer f.Close() // only read
	super, err := ext4.Read(f)
	return err == nil && super.Quota
}

// Load loads a kernel module.
func (s *Attacher) Load(module string) error {
	loader, err := s.Modules()
	if err != nil {
		return err
	}
	return loader.Load(module, "")
}
