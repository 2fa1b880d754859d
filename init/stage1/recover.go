package stage1

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"resinos/bsp/bootvars"
	"resinos/bsp/slot"
	"resinos/init/console"
	"resinos/init/lights"
	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/fat"
	"resinos/services/osrelease"
)

// otherSlot is where the slot that was not booted is mounted, if the root of the booted one is bad.
const otherSlot = "/other"

// recoveryPause is the time between two tries while neither slot can be used.
const recoveryPause = 5 * time.Minute

// recover handles a slot that was found but whose root cannot be used. On trial, the bootloader counts this boot and
// goes back. Otherwise recover makes the bootloader boot the other slot from now on, if that is whole. If not, only a
// person can help: the device says so on the console and tries again. recover returns the time until the next try;
// bad is why the slot has no root.
func (s *Stage) recover(bad error) time.Duration {
	if s.slot.Device == "" || s.cmdline.Trial {
		return lastWords
	}
	other, err := s.attachOther()
	if err == nil {
		err = whole(otherSlot)
	}
	if err == nil {
		if err = s.leave(slot.Name(s.cmdline.Slot)); err == nil {
			console.Say(fmt.Sprintf("slot %s is whole: it is booted from now on", other))
			return lastWords
		}
	}
	console.Say(fmt.Sprintf("recovery: slot %s cannot be used, and slot %s neither: %v", s.cmdline.Slot, other, err))
	if osrelease.Variant() == "development" {
		s.rescue(fmt.Errorf("slot %s: %w; slot %s: %w", s.cmdline.Slot, bad, other, err))
	}
	console.Say("recovery: write an image to the disk, or replace the disk, if this does not end")
	return recoveryPause
}

// attachOther mounts the other slot of the disk.
func (s *Stage) attachOther() (slot.Name, error) {
	here := slot.Name(s.cmdline.Slot)
	labels := map[slot.Name]string{slot.A: disk.RootA, slot.B: disk.RootB}
	if !here.Valid() {
		return "", errors.New("the command line does not say which slot was booted (resinos.slot=)")
	}
	p, err := s.onDisk(labels[here.Other()])
	if err != nil {
		return here.Other(), err
	}
	return here.Other(), attach.Apply(attach.Entry{Name: "other slot", Source: p.Node(), Target: otherSlot,
		Type: "ext4", Flags: []string{"ro", "nosuid", "nodev", "noexec"}, Options: "noload"})
}

// onDisk finds a partition on the disk of the slot.
func (s *Stage) onDisk(label string) (disk.Partition, error) {
	all, err := disk.Read("/sys")
	if err != nil {
		return disk.Partition{}, err
	}
	p, found := disk.OnDisk(all, s.slot.Disk, label)
	if !found {
		return p, fmt.Errorf("disk %s has no partition %s", s.slot.Disk, label)
	}
	return p, nil
}

// whole reads all files of a slot and compares them with the manifest. It is slow, and finds every damage.
func whole(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, slot.ManifestFile))
	if err != nil {
		return err
	}
	m, err := slot.ParseManifest(text)
	if err != nil {
		return err
	}
	needed := map[string]bool{slot.Kernel: true, slot.Initramfs: true, slot.Root: true}
	for _, f := range m.Files {
		if err := same(filepath.Join(dir, f.Name), f); err != nil {
			return err
		}
		delete(needed, f.Name)
	}
	if len(needed) > 0 {
		return fmt.Errorf("%s does not list kernel, initramfs and root", slot.ManifestFile)
	}
	return nil
}

func same(name string, want slot.File) error { return copyFile(io.Discard, name, want) }

// copyFile copies a file of a slot to w. It fails if the file is not what was installed; w then has some of it.
func copyFile(w io.Writer, name string, want slot.File) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() // nothing was written
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(sum, w), f)
	if err != nil {
		return err
	}
	if size != want.Size || hex.EncodeToString(sum.Sum(nil)) != want.SHA256 {
		return fmt.Errorf("%s is not what was installed", name)
	}
	return nil
}

// leave makes the bootloader boot the other slot.
func (s *Stage) leave(bad slot.Name) error {
	p, err := s.onDisk(disk.Boot)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(p.Node(), os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(leaveRoot(f, bad), f.Sync(), f.Close())
}

// bootDisk is the boot partition.
type bootDisk interface {
	io.ReaderAt
	io.WriterAt
}

// leaveRoot changes the boot variables, which are in one sector, without mounting their file system.
func leaveRoot(boot bootDisk, bad slot.Name) error {
	files, err := fat.Open(boot)
	if err != nil {
		return fmt.Errorf("write boot variables: %w", err)
	}
	for _, loader := range bootvars.Bootloaders() {
		old, err := files.Read(loader.File())
		if err != nil {
			continue
		}
		v, _ := loader.Parse(old) // of a damaged file, Parse returns the values that the bootloader uses
		text, err := loader.Encode(v.LeaveRoot(bad))
		at, size, placed := files.Place(loader.File())
		if err := errors.Join(err, placed); err != nil {
			return err
		}
		const sector = 512
		if size != int64(len(text)) || len(text) > sector && !bytes.Equal(old[sector:], text[sector:]) {
			return fmt.Errorf("write boot variables %s: it does not have its form", loader.File())
		}
		if _, err := boot.WriteAt(text[:min(sector, len(text))], at); err != nil {
			return fmt.Errorf("write boot variables: %w", err)
		}
		return nil
	}
	return errors.New("write boot variables: the boot partition has none")
}

// wait gives a person time to read the console. In recovery, Enter starts a shell on a development image. wait then
// does not return: the process executes the shell, and the kernel restarts the device when the shell ends.
func (s *Stage) wait(d time.Duration) {
	shell := ""
	if d == recoveryPause && osrelease.Variant() == "development" {
		shell = keptShell(slot.Target, otherSlot)
	}
	if shell != "" {
		console.Say("recovery: Enter starts a shell; when it ends, the device restarts")
	}
	stop := make(chan struct{})
	defer close(stop)
	if d == recoveryPause {
		go lights.Blink(lights.Dir, stop)
	}
	input := []unix.PollFd{{Fd: 0, Events: unix.POLLIN}}
	if shell == "" {
		input = nil
	}
	for end := time.Now().Add(d); time.Until(end) > 0; {
		n, err := unix.Poll(input, int(time.Until(end).Milliseconds())+1)
		if err != nil || n == 0 {
			continue
		}
		if input[0].Revents&unix.POLLIN != 0 {
			err = unix.Exec(shell, []string{"sh"}, []string{"PATH=/bin", "HOME=/", "TERM=linux"})
			console.Say(fmt.Sprintf("recovery: start shell: %v", err))
		}
		input = nil // nobody can press Enter any more
	}
}

// keptShell copies the shell from the first slot that has one into memory, where it can be executed.
func keptShell(slots ...string) string {
	const name = "/" + slot.Shell
	for _, dir := range slots {
		if program, err := os.ReadFile(filepath.Join(dir, slot.Shell)); err == nil {
			if os.WriteFile(name, program, 0o755) == nil {
				return name
			}
		}
	}
	return ""
}
