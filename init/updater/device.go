package updater

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/bsp/bootfiles"
	"resinos/bsp/bootvars"
	"resinos/bsp/bundle/trust"
	"resinos/bsp/slot"
	"resinos/bsp/update"
	"resinos/containers/appstatus"
	"resinos/init/cmdline"
	"resinos/init/confirm"
	"resinos/init/limits"
	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/services/log/entry"
	"resinos/services/log/query"
	"resinos/services/osrelease"
	"resinos/services/pid1"
	"resinos/services/registries"
)

// device is the device that the updater runs on. Its paths are fields so that tests can have one of their own.
type device struct {
	record, boot, apps, keys string
	bootSource               string    // where the root has the files for boot
	containers               string    // directory of their control groups
	lock, writing            string    // files of locks: around each change, and while a slot is written
	confirmed                string    // file that a confirmation creates
	booted                   slot.Name // by the command line
	bootID, board, variant   string
	running                  string   // the version
	registries               []string // directories of the settings for registries
	client                   pid1.Client
	slots                    func() (idle, running slotFile, err error)
	restart                  func() error // what reboots if PID 1 does not
	log                      *slog.Logger
}

// slotFile is the block device of a slot.
type slotFile struct {
	path         string
	size         int64
	major, minor uint32
}

// onDevice is the real one.
func onDevice(log *slog.Logger) *device {
	line, err := cmdline.Read()
	if err != nil {
		log.Warn("command line is damaged", "error", err)
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		log.Warn("boot has no name", "error", err)
	}
	d := &device{
		record: update.Path, lock: update.LockPath, writing: update.WritingPath, confirmed: update.ConfirmedPath,
		boot: update.BootDir, bootSource: bootfiles.Source,
		apps: appstatus.Path, containers: limits.Group,
		keys:       trust.Directory,
		registries: strings.Split(registries.Default, ","),
		booted:     slot.Name(line.Slot), bootID: strings.TrimSpace(string(id)), board: osrelease.Value("RESIN_BOARD"),
		variant: osrelease.Variant(), running: osrelease.Value("VERSION_ID"), log: log,
	}
	d.slots = d.findSlots
	d.restart = func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) }
	return d
}

// change lets do change record and variables. What was read is settled first.
func (d *device) change(ctx context.Context, do func(update.Settled, bootvars.Bootloader) error) error {
	if !d.booted.Valid() {
		return errors.New("the command line does not say which slot was booted (resinos.slot=)")
	}
	unlock, err := update.Lock(d.lock)
	if err != nil {
		return err
	}
	defer unlock()
	loader, v, err := update.ReadVariables(d.boot)
	if loader == "" {
		return err
	}
	if err != nil {
		d.log.Warn("boot variables are damaged", "error", err) // v are those that the bootloader uses
	}
	r, err := update.Read(d.record)
	if err != nil {
		d.log.Warn("update record is damaged", "error", err)
	}
	s := update.Settle(r, update.Facts{Booted: d.booted, Running: d.running, BootID: d.bootID, Variables: v,
		Busy: update.Held(d.writing),
		Last: d.lastBoot(ctx), Now: time.Now()})
	return do(s, loader)
}

// lastBoot asks PID 1 how the boot before this one ended.
func (d *device) lastBoot(ctx context.Context) update.LastBoot {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	report, err := d.client.Boot(ctx)
	if err != nil || report.Last == nil {
		return update.LastBoot{}
	}
	return update.LastBoot{How: report.Last.How, Why: report.Last.Why, BootID: report.Last.BootID,
		Later: report.Last.Later}
}

// Settle implements confirm.Device.
func (d *device) Settle(ctx context.Context) (settled update.Settled, err error) {
	err = d.change(ctx, func(s update.Settled, loader bootvars.Bootloader) error {
		settled = s
		if err := d.write(s.Record, loader, s.Variables); err != nil || s.OnTrial || s.Leaving {
			return err
		}
		return d.decided() // a confirmation may have ended before it came to this
	})
	return settled, err
}

// write writes what differs from what is there: the record first.
func (d *device) write(r update.Record, loader bootvars.Bootloader, v bootvars.Variables) error {
	return errors.Join(d.writeRecord(r), d.writeVariables(loader, v))
}

func (d *device) writeRecord(r update.Record) error {
	old, err := update.Read(d.record)
	if err == nil && update.Same(old, r) {
		return nil
	}
	return r.Write(d.record)
}

func (d *device) writeVariables(loader bootvars.Bootloader, v bootvars.Variables) error {
	if _, old, err := update.ReadVariables(d.boot); err == nil {
		was, err1 := loader.Encode(old)
		now, err2 := loader.Encode(v)
		if err1 == nil && err2 == nil && bytes.Equal(was, now) {
			return nil
		}
	}
	return update.WriteVariables(d.boot, loader, v)
}

// Reached implements confirm.Device.
func (d *device) Reached() error {
	return d.change(context.Background(), func(s update.Settled, loader bootvars.Bootloader) error {
		if a, open := s.Record.Current(); open && !slices.Contains(a.Reached, d.bootID) {
			a.Reached = append(a.Reached, d.bootID)
		}
		return d.write(s.Record, loader, s.Variables)
	})
}

// Confirm implements confirm.Device.
func (d *device) Confirm(ctx context.Context, reason string) error {
	return d.change(ctx, func(s update.Settled, loader bootvars.Bootloader) error {
		if !s.OnTrial {
			return errNotOnTrial
		}
		// Before the switch is final: a power cut in between is another try, which goes on here.
		d.installBootFiles()
		r, v := s.Confirm(reason)
		if err := d.writeVariables(loader, v); err != nil {
			return err // it is still on trial
		}
		return errors.Join(d.writeRecord(r), d.decided())
	})
}

// installBootFiles brings the boot partition to the files of the version that runs. This version was started by the
// files that are there, so a fault is no reason to leave it.
func (d *device) installBootFiles() {
	done, err := bootfiles.Install(d.bootSource, d.boot)
	for _, step := range done {
		d.log.Info("boot file installed", "path", step.Path)
	}
	if err != nil {
		d.log.Warn("boot files are not those of this version", "error", err)
	}
}

// decided has PID 1 let this boot go on.
func (d *device) decided() error { return os.WriteFile(d.confirmed, nil, 0o600) }

var errNotOnTrial = errors.New("no slot is on trial")

// GiveUp implements confirm.Device.
func (d *device) GiveUp(ctx context.Context, cause update.Cause, reason string) error {
	said := d.warnings(ctx)
	return d.change(ctx, func(s update.Settled, loader bootvars.Bootloader) error {
		if !s.OnTrial {
			return errNotOnTrial
		}
		r, v := s.GiveUp(cause, reason, said)
		return d.write(r, loader, v)
	})
}

// warnings are the last warnings and errors of this boot's log.
func (d *device) warnings(ctx context.Context) (lines []string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	const warning, most = 4, 40
	worst := warning
	err := query.Query(ctx, query.SocketPath, query.Filter{Priority: &worst, Last: most, Boot: "0"},
		func(e entry.Entry) error {
			lines = append(lines, fmt.Sprintf("%9.3f %s: %s", e.Boottime.Seconds(), e.Name, e.Message))
			return nil
		})
	if err != nil {
		lines = append(lines, fmt.Sprintf("no log: %v", err))
	}
	return lines
}

// Reboot implements confirm.Device. A PID 1 that does not take the order in time is not waited for: on trial, anything
// may be broken.
func (d *device) Reboot(ctx context.Context) error {
	asked, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := d.client.Power(asked, pid1.Shutdown{Action: pid1.Reboot})
	if err == nil {
		<-ctx.Done() // the shutdown ends this process
		return nil
	}
	d.log.Error("PID 1 does not reboot", "error", err)
	unix.Sync()
	return d.restart()
}

// Look implements confirm.Device.
func (d *device) Look(ctx context.Context) (l confirm.Look) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	l.Services, l.PID1 = d.client.Status(ctx)
	l.Apps, l.AppsErr = appstatus.Read(d.apps)
	l.Network = confirm.DefaultRoute("/proc")
	return l
}

// findSlots returns the two slots: the one that runs is on the partition attached as the slot, and the idle one is the
// other partition of that disk, whatever labels other disks carry.
func (d *device) findSlots() (idle, running slotFile, err error) {
	mounts, err := attach.ReadMounts()
	if err != nil {
		return idle, running, err
	}
	mount, found := attach.At(mounts, slot.Target)
	if !found {
		return idle, running, fmt.Errorf("find slots: nothing is attached at %s", slot.Target)
	}
	all, err := disk.Read("/sys")
	if err != nil {
		return idle, running, err
	}
	here, found := disk.ByDevice(all, mount.Major, mount.Minor)
	if !found {
		return idle, running, errors.New("find slots: the slot that runs lies on no partition")
	}
	labels := map[slot.Name]string{slot.A: disk.RootA, slot.B: disk.RootB}
	if same, found := disk.OnDisk(all, here.Disk, labels[d.booted]); !found || same.Device != here.Device {
		return idle, running, fmt.Errorf("find slots: the command line says slot %s, but %s is attached at %s",
			d.booted, here.Device, slot.Target)
	}
	other, found := disk.OnDisk(all, here.Disk, labels[d.booted.Other()])
	if !found {
		return idle, running, fmt.Errorf("find slots: disk %s has no partition %s", here.Disk, labels[d.booted.Other()])
	}
	return fileOf(other), fileOf(here), nil
}

func fileOf(p disk.Partition) slotFile {
	return slotFile{path: p.Node(), size: int64(p.Size), major: p.Major, minor: p.Minor}
}
