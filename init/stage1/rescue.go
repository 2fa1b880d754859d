package stage1

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/u-root/u-root/pkg/mount"
	"golang.org/x/sys/unix"

	"resinos/bsp/slot"
	"resinos/init/console"
	"resinos/mounts/attach"
	"resinos/services/bootreport"
	"resinos/services/boottime"
)

// recoveryFile is where the recovery root is kept: in memory, so that the disk may fail, or be written again.
const recoveryFile = "/" + slot.Recovery

// rescue boots the recovery root that the slots of development images have: a root with little else than network and
// ssh, in which a person finds out why neither slot can be used. It comes back only if it cannot.
func (s *Stage) rescue(why error) {
	step := bootreport.Step{Stage: bootreport.StageInitramfs, Name: bootreport.StepRecovery,
		Start: bootreport.Seconds(boottime.Now()), Result: bootreport.ResultDegraded, Error: why.Error()}
	err := s.attachRecovery()
	if err == nil {
		console.Say("recovery: starting the recovery root")
		s.record.Add(step)
		if err = s.record.Save(bootreport.InitramfsPath); err == nil {
			err = s.switchRoot()
		}
	}
	console.Say(fmt.Sprintf("recovery: there is no recovery root: %v", err))
}

// attachRecovery puts the recovery root of the slot that was booted, or else that of the other one, where the root
// would be.
func (s *Stage) attachRecovery() error {
	_ = unix.Unmount(newRoot, unix.MNT_DETACH) // a root without an init, or nothing
	faults := keepRecovery(slot.Target, recoveryFile)
	if faults != nil {
		other := keepRecovery(otherSlot, recoveryFile)
		if other != nil {
			return errors.Join(faults, other)
		}
	}
	// Whoever writes a slot wants it for himself. PID 1 looks for its disk where the slot is.
	if same, err := mount.SameFilesystem("/", slot.Target); err == nil && same {
		_ = mount.MoveMount(otherSlot, slot.Target)
	} else {
		_ = unix.Unmount(otherSlot, 0) // it may not be attached
	}
	node, handle, err := attach.Loop(recoveryFile)
	if err != nil {
		return err
	}
	defer handle.Close() // what lies on top holds the loop device
	return attach.Apply(attach.Entry{Name: "recovery root", Source: node, Target: newRoot, Type: "squashfs",
		Flags: []string{"ro", "nodev"}})
}

// keepRecovery copies the recovery root of a slot, if it is what was installed and has the modules of this kernel.
func keepRecovery(dir, to string) error {
	text, err := os.ReadFile(filepath.Join(dir, slot.ManifestFile))
	if err != nil {
		return err
	}
	m, err := slot.ParseManifest(text)
	if err != nil {
		return err
	}
	var kernel unix.Utsname
	if err := unix.Uname(&kernel); err != nil {
		return err
	}
	if running := unix.ByteSliceToString(kernel.Release[:]); running != m.Kernel {
		return fmt.Errorf("%s is for kernel %s, this is %s", dir, m.Kernel, running)
	}
	i := slices.IndexFunc(m.Files, func(f slot.File) bool { return f.Name == slot.Recovery })
	if i < 0 {
		return fmt.Errorf("%s: %s: %w", dir, slot.Recovery, fs.ErrNotExist)
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	if err := errors.Join(copyFile(f, filepath.Join(dir, slot.Recovery), m.Files[i]), f.Close()); err != nil {
		return errors.Join(err, os.Remove(to)) // it is in memory
	}
	return nil
}
