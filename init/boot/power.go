package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
)

// Power is what becomes of the device after the shutdown.
type Power string

// The three ends.
const (
	PowerOff Power = "poweroff"
	Reboot   Power = "reboot"
	Halt     Power = "halt"
)

var powerCommand = map[Power]int{
	PowerOff: unix.LINUX_REBOOT_CMD_POWER_OFF,
	Reboot:   unix.LINUX_REBOOT_CMD_RESTART,
	Halt:     unix.LINUX_REBOOT_CMD_HALT,
}

// PowerFile holds the Power while the device goes down. A service that is stopped and finds it knows that this is the end,
// not a restart: the manager then stops the containers.
const PowerFile = runtimeDir + "/power"

// The bounds of the way down. They add up to less than the time a person waits before pulling the plug.
const (
	stopPatience = 40 * time.Second // all services, in reverse order
	termPatience = 5 * time.Second  // what they left behind, from SIGTERM to SIGKILL
	killPatience = 5 * time.Second  // from SIGKILL to the end; a process in a dead disk's queue may never end
	syncPatience = 20 * time.Second
	hardLimit    = 90 * time.Second // then the power goes whatever hangs
)

// down takes everything apart once the services are stopped, and ends the device. It does not return.
type down struct {
	action Power
	log    *slog.Logger
	out    *Handler
}

// run never returns: when the kernel refuses the power command it tries the next, and in the end waits for the watchdog.
func (d down) run() {
	d.sweep(syscall.SIGTERM, termPatience)
	d.sweep(syscall.SIGKILL, killPatience)
	// logd is gone; the last lines go where the next boot may find them.
	d.out.Redirect(kernelLog(), console(true))
	d.sync()
	d.detach()
	d.sync()
	d.log.Info("good bye", "action", string(d.action))
	cutPower(d.action, d.log)
}

// cutPower gives the command to the kernel and does not return.
func cutPower(action Power, log *slog.Logger) {
	err := unix.Reboot(powerCommand[action])
	log.Error("power command refused", "action", string(action), "error", err)
	// As root of the real pid name space this works where reboot(2) hangs in a driver.
	err = put("/proc/sysrq-trigger", "b")
	log.Error("forced reboot refused", "error", err)
	select {} // PID 1 never exits; the hardware watchdog is left
}

// sweep signals every process and waits until none is left.
func (d down) sweep(sig syscall.Signal, patience time.Duration) {
	left := living()
	if len(left) == 0 {
		return
	}
	d.log.Info("ending processes", "signal", sig.String(), "processes", len(left))
	if err := unix.Kill(-1, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		d.log.Warn("processes cannot be signalled", "error", err)
	}
	limit := time.NewTimer(patience)
	defer limit.Stop()
	// The reaper takes our children, but grandchildren elsewhere end without telling us: so this looks.
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if left = living(); len(left) == 0 {
				return
			}
		case <-limit.C:
			d.log.Warn("processes are left", "signal", sig.String(), "pids", fmt.Sprint(left[:min(len(left), 10)]))
			return
		}
	}
}

// living lists the processes of this pid name space but PID 1, kernel threads and the dead.
func living() []int {
	dir, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range dir {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == 1 {
			continue
		}
		if text, err := os.ReadFile("/proc/" + e.Name() + "/stat"); err == nil && lives(string(text)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// lives reads /proc/PID/stat: "pid (name) state ppid pgrp session tty tpgid flags …". The name may hold anything.
func lives(stat string) bool {
	const kernelThread = 0x00200000 // PF_KTHREAD in include/linux/sched.h
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 7 || fields[0] == "Z" || fields[0] == "X" {
		return false
	}
	flags, err := strconv.ParseUint(fields[6], 10, 32)
	return err == nil && flags&kernelThread == 0
}

// sync writes out what is dirty, but does not let a dead disk keep the device from going down.
func (d down) sync() {
	done := make(chan struct{})
	go func() { // left behind when the disk is dead: there is no way to end a sync
		unix.Sync()
		close(done)
	}()
	limit := time.NewTimer(syncPatience)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
		d.log.Error("disks are not written out", "after", syncPatience)
	}
}

func (d down) detach() {
	// Three rounds: what held a mount busy may itself come off in the round before.
	for range 3 {
		have, err := attach.ReadMounts()
		if err != nil {
			d.log.Error("mounts cannot be listed", "error", err)
			return
		}
		var faults []error
		for _, step := range attach.DetachOrder(have, slotTarget) {
			if err := step.Apply(); err != nil {
				faults = append(faults, err)
			}
		}
		if len(faults) == 0 {
			return
		}
		d.log.Warn("not everything is detached", "error", errors.Join(faults...))
	}
}

// announce leaves the action for services that are about to be stopped.
func announce(action Power) error {
	if err := os.WriteFile(PowerFile, []byte(action+"\n"), 0o644); err != nil {
		return fmt.Errorf("announce shutdown: %w", err)
	}
	return nil
}

// armHardLimit cuts the power when the way down takes too long, whatever it hangs in.
func armHardLimit(action Power, log *slog.Logger) {
	time.AfterFunc(hardLimit, func() {
		log.Error("shutdown takes too long: power is cut", "after", hardLimit)
		cutPower(action, log)
	})
}

// request hands a power action to PID 1's loop; one that is already on its way counts.
func request(ctx context.Context, requests chan<- Power, action Power) error {
	if _, known := powerCommand[action]; !known {
		return fmt.Errorf("power: action %.20q is not poweroff, reboot or halt", action)
	}
	select {
	case requests <- action:
	case <-ctx.Done():
		return context.Cause(ctx)
	default: // the loop has one request waiting already
	}
	return nil
}
