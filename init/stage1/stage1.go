// Package stage1 owns the boot in the initramfs: from the kernel's start of /init to the switch to the root. It never
// chooses the root by the name of a partition, and never hangs: when it cannot continue, it prints the reason on the
// console and reboots, so that the bootloader counts a try. It writes to a disk in one case only: if the root of a slot
// that is not on trial is bad, and the other slot is whole, it changes the boot variables. Read Stage first.
package stage1

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/u-root/u-root/pkg/mount"
	"golang.org/x/sys/unix"

	"resinos/bsp/slot"
	"resinos/bsp/watchdog"
	"resinos/init/cmdline"
	"resinos/init/console"
	"resinos/init/walk"
	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/verity"
	"resinos/services/bootreport"
	"resinos/services/boottime"
)

// The paths in the initramfs.
const (
	newRoot     = "/newroot"
	rootFile    = slot.Target + "/" + slot.Root
	modulesList = "/etc/modules"
	rootHash    = "/" + slot.RootHash
	nextInit    = "/usr/sbin/init"
	efivars     = "/sys/firmware/efi/efivars"
)

// The longest time until the slot's disk appears, and the time that a person has to read why the boot failed.
const (
	diskPatience = 30 * time.Second
	lastWords    = 10 * time.Second
)

// trialTimeout is the watchdog's timeout on trial, until PID 1 opens the watchdog. PID 1 does so after it has mounted
// state, boot and data, which may take long: a journal may have to be replayed from a slow card, or a file system be
// repaired.
const trialTimeout = 2 * time.Minute

// Loader loads a kernel module and all it needs.
type Loader interface {
	Load(name, params string) error
}

// Stage holds what stage 1 needs from outside.
type Stage struct {
	// OpenModules returns the loader of the running kernel's modules; it is called once /proc is mounted.
	OpenModules func() (Loader, error)

	record  *bootreport.Record
	log     *slog.Logger
	loader  Loader
	cmdline cmdline.Line
	slot    disk.Partition

	watchdog *watchdog.Timer // open until the switch; nil if there is none
}

// Run boots the root. It does not return: it executes PID 1 of the root, or reboots.
func (s *Stage) Run() {
	s.record = bootreport.New(bootreport.Report{})
	// It fails only if the table of milestones is full, and this is the first one.
	_, _ = s.record.Mark(bootreport.MilestonePID1, boottime.Now())
	err := s.walk()
	console.Say("initramfs: " + err.Error())
	if s.log != nil {
		s.log.Error("initramfs gave up", "error", err)
	}
	pause := s.recover(err)
	console.Say(fmt.Sprintf("rebooting in %v", pause))
	s.wait(pause)
	unix.Sync()
	err = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	console.Say("initramfs: reboot: " + err.Error())
	os.Exit(1) // the kernel panics when its init exits, and panic=10 reboots
}

func (s *Stage) walk() error {
	// The file systems come before the log, which needs /dev.
	if err := attachPseudo(); err != nil {
		return err
	}
	s.log = slog.New(console.EarlyLog(false))
	walker := walk.Walker{Stage: bootreport.StageInitramfs, Record: s.record, Log: s.log}
	if err := walker.Walk(s.actions()); err != nil {
		return err
	}
	if err := s.record.Save(bootreport.InitramfsPath); err != nil {
		// the time line then lacks its beginning; the boot continues
		s.log.Warn("boot report is not saved", "error", err)
	}
	return s.switchRoot()
}

func (s *Stage) actions() []walk.Action {
	return []walk.Action{
		{Name: "load modules", Severity: bootreport.Degraded, Do: s.loadModules},
		{Name: "find slot", Severity: bootreport.Fatal, Do: s.findSlot},
		{Name: "watchdog", Severity: bootreport.Ignorable,
			Do: func() error { return s.startWatchdog(watchdog.Path) }},
		{Name: "attach slot", Severity: bootreport.Fatal, Do: s.attachSlot},
		{Name: "attach root", Severity: bootreport.Fatal, Do: s.attachRoot},
	}
}

// startWatchdog starts the watchdog, which resets the board if the version on trial hangs before its PID 1 opens the
// watchdog. A confirmed version has once come that far, so there a slow disk must not end the boot. The switch of the
// root closes the watchdog's file; the kernel then logs that the watchdog did not stop, as intended.
func (s *Stage) startWatchdog(path string) (err error) {
	if !s.cmdline.Trial {
		return nil
	}
	s.watchdog, err = watchdog.Open(path, trialTimeout)
	return err
}

func attachPseudo() error {
	for _, e := range []attach.Entry{
		{Name: "proc", Target: "/proc", Type: "proc", Flags: []string{"nosuid", "nodev", "noexec"}},
		{Name: "sys", Target: "/sys", Type: "sysfs", Flags: []string{"nosuid", "nodev", "noexec"}},
		{Name: "dev", Target: "/dev", Type: "devtmpfs", Flags: []string{"nosuid", "noexec"}, Options: "mode=0755"},
		{Name: "run", Target: "/run", Type: "tmpfs", Flags: []string{"nosuid", "nodev"}, Options: "mode=0755,size=20%"},
	} {
		if err := attach.Ensure(e); err != nil {
			return err
		}
	}
	// The kernel lets user space write ten lines in five seconds into its log; a boot writes more, and so does the
	// trace of a panic.
	_ = os.WriteFile("/proc/sys/kernel/printk_devkmsg", []byte("on\n"), 0) // without it only lines are lost
	return nil
}

// loadModules loads the modules of the board's list, in its order. If one fails, it loads the others: the search for
// the slot shows whether this device needs the missing one.
func (s *Stage) loadModules() error {
	loader, err := s.OpenModules()
	if err != nil {
		return err
	}
	s.loader = loader
	text, err := os.ReadFile(modulesList)
	if err != nil {
		return fmt.Errorf("read module list: %w", err)
	}
	var faults []error
	for _, name := range ParseModules(string(text)) {
		if err := loader.Load(name, ""); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// ParseModules reads a list of module names, one a line; # begins a comment.
func ParseModules(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if name := strings.TrimSpace(line); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func (s *Stage) findSlot() error {
	line, err := cmdline.Read()
	if line.Root == "" {
		return errors.Join(err, errors.New("the command line has no resinos.root=PARTUUID=…"))
	}
	s.cmdline = line
	same, err := await(line.Root, diskPatience)
	if err != nil {
		return err
	}
	var hint disk.DevicePath
	if len(same) > 1 {
		if hint, err = s.bootedFrom(); err != nil {
			s.log.Warn("firmware does not say which disk it booted from", "error", err)
		}
	}
	slot, warning, err := disk.Choose(same, hint)
	if err != nil {
		return err
	}
	if warning != "" {
		s.log.Warn(warning)
	}
	s.slot = slot
	s.record.Locate(line.Slot, slot.Disk)
	return nil
}

// bootedFrom asks the firmware which disk it booted. This is needed only if two disks are clones, so efivarfs is loaded
// and mounted only then.
func (s *Stage) bootedFrom() (disk.DevicePath, error) {
	if s.loader != nil {
		_ = s.loader.Load("efivarfs", "") // it may be built in; the mount shows that
	}
	if err := attach.Ensure(attach.Entry{Name: "efivars", Target: efivars, Type: "efivarfs",
		Flags: []string{"ro", "nosuid", "nodev", "noexec"}}); err != nil {
		return nil, err
	}
	path, err := disk.BootedFrom(efivars)
	// /sys moves to the root, where efivarfs below it is not expected.
	return path, errors.Join(err, unix.Unmount(efivars, 0))
}

// attachSlot mounts the slot without replaying its journal: only an update may write a slot.
func (s *Stage) attachSlot() error {
	return attach.Apply(attach.Entry{Name: "slot", Source: s.slot.Node(), Target: slot.Target, Type: "ext4",
		Flags: []string{"ro", "nosuid", "nodev", "noexec"}, Options: "noload"})
}

// attachRoot mounts the root. If the initramfs has the root hash, a block that differs from what was built cannot be
// read.
func (s *Stage) attachRoot() error {
	node, handle, err := attach.Loop(rootFile)
	if err != nil {
		return err
	}
	defer handle.Close() // the mount keeps the loop device
	text, err := os.ReadFile(rootHash)
	if err == nil {
		node, err = s.verified(node, string(text))
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil // the image was built without a hash tree
	}
	if err != nil {
		return err
	}
	return attach.Apply(attach.Entry{Name: "root", Source: node, Target: newRoot, Type: "squashfs",
		Flags: []string{"ro", "nosuid", "nodev"}})
}

// verified creates the device that checks each block of the root (dm-verity). On trial, a damaged block causes a panic,
// so that the bootloader counts a try and goes back. A confirmed version continues, and only the read fails.
func (s *Stage) verified(below, text string) (node string, err error) {
	root, err := verity.Parse(text)
	if err != nil {
		return "", err
	}
	if s.loader != nil {
		for _, name := range verity.HashModules(runtime.GOARCH) {
			if s.loader.Load(name, "") == nil {
				break
			}
		}
		if err := s.loader.Load(verity.Module, ""); err != nil {
			return "", err
		}
	}
	then := verity.Fail
	if s.cmdline.Trial {
		then = verity.Panic
	}
	return root.Attach("root", below, then)
}

func (s *Stage) switchRoot() error {
	if _, err := os.Stat(newRoot + nextInit); err != nil {
		return fmt.Errorf("find next init: %w", err)
	}
	if err := mount.MoveMount(slot.Target, newRoot+slot.Target); err != nil {
		return fmt.Errorf("move slot: %w", err)
	}
	log.SetOutput(io.Discard) // SwitchRoot logs each of its steps to the global logger
	if err := mount.SwitchRoot(newRoot, nextInit); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	return errors.New("switch root: it came back")
}
