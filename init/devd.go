package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"resinos/bsp/button"
	"resinos/bsp/hardware"
	"resinos/bsp/kmod"
	"resinos/bsp/udevrules"
	"resinos/bsp/uevent"
	"resinos/services/config"
	"resinos/services/notify"
	"resinos/services/pid1"
	"resinos/services/settings"
)

func runDevd(ctx context.Context, args []string, log *slog.Logger) error {
	if err := parse("devd", args, func(*flag.FlagSet) {}); err != nil {
		return err
	}
	loader, err := kmod.OpenRunning()
	if err != nil {
		log.Warn("no module will be loaded", "error", err) // devd still creates nodes and sets their modes
	}
	now, held := takeLife(notify.FromParent(os.Getenv, os.Getpid()), log)
	rules := &udevrules.Keeper{Sys: "/sys", Dev: "/dev", Record: "/run/resinos/device-names.json", Log: log}
	ctx, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { runButton(ctx, held, now, log) })
	defer now.leave(log)
	defer beside.Wait()
	defer stop()
	screen := newScreen(ctx, &beside, log)
	if now.continues {
		screen.last = now.Screen
	}
	return uevent.Run(ctx, uevent.Config{
		Events: now.events, Continues: now.continues, Idle: now.idle(),
		// While the owner has rules, names depend on what devd has seen of each device.
		Busy: func() bool {
			if rules.Busy() || now.events == nil || now.stays.Load() {
				return true
			}
			now.Screen, now.done = screen.last, true
			return false
		},
		Served: screen.look,
		Loader: loader, Log: log, Alive: notify.Watched(),
		Ready: func() { ready(log) },
		// The owner's settings must be in force before modules that ask for firmware are loaded.
		Prepare: func() {
			applied := make(chan struct{})
			beside.Go(func() { followHardware(ctx, rules, now, log, applied) })
			select {
			case <-applied:
			case <-ctx.Done():
			}
		},
		Event: func(e uevent.Event) {
			rules.Event(e.Action, e.Path, e.Node, e.Keys)
			if e.Node == "fb0" { // some drivers make it long after they were loaded
				screen.look()
			}
		},
		Lost: rules.Again,
	})
}

// followHardware applies the keys of config.json that concern devices whenever they change. It closes applied when the
// settings that were published at its start are in force, or if there were none.
func followHardware(ctx context.Context, rules *udevrules.Keeper, now *devdLife, log *slog.Logger,
	applied chan<- struct{}) {
	first := sync.OnceFunc(func() { close(applied) })
	defer first()
	if published, err := settings.Read(settings.Path); err != nil || published.Values == nil {
		first() // Follow logs why, and waits for the file
	}
	h := &hardwareSettings{sys: "/sys", file: hardware.File, rules: rules, faults: map[string]error{}}
	if now.continues {
		h.last.Values = now.Settings
	}
	err := settings.Follow(ctx, settings.Follower{Daemon: "devd", Keys: h.keys(), Log: log,
		Apply: func(s settings.Settings) error {
			defer first()
			err := h.apply(s)
			now.applied(h, err)
			return err
		}})
	if err != nil && ctx.Err() == nil {
		log.Warn("settings not followed", "error", err)
	}
}

// hardwareSettings are the keys of config.json that devd applies.
type hardwareSettings struct {
	sys   string // where sysfs is mounted
	file  string // the board's table of hardware, as JSON
	rules *udevrules.Keeper

	last   settings.Settings
	faults map[string]error // the fault of each key
}

type profiles = map[string]hardware.Profile

func (h *hardwareSettings) table() map[string]func(settings.Settings) error {
	return map[string]func(settings.Settings) error{
		config.DeviceRules: h.applyRules, config.FirmwareVolume: h.applyFirmware,
		config.FanProfile: func(s settings.Settings) error {
			return h.applyProfile(s.Text(config.FanProfile), "fan profile",
				func(b hardware.Hardware) profiles { return b.Fan })
		},
		config.PowerMode: func(s settings.Settings) error {
			return h.applyProfile(s.Text(config.PowerMode), "power mode",
				func(b hardware.Hardware) profiles { return b.Power })
		},
	}
}

func (h *hardwareSettings) keys() []string { return slices.Sorted(maps.Keys(h.table())) }

// apply applies the keys that changed, and returns the faults of all.
func (h *hardwareSettings) apply(s settings.Settings) error {
	var all []error
	for key, apply := range h.table() {
		if !s.Same(h.last, []string{key}) {
			h.faults[key] = apply(s)
		}
		if err := h.faults[key]; err != nil {
			all = append(all, settings.Fault{Key: key, Text: err.Error()})
		}
	}
	h.last = s
	return errors.Join(all...)
}

func (h *hardwareSettings) applyRules(s settings.Settings) error {
	rules, err := udevrules.Parse(s.Table(config.DeviceRules), udevrules.ReadNames("/etc/passwd", "/etc/group"))
	return errors.Join(err, h.rules.Set(rules))
}

// applyFirmware sets the directory in which the kernel looks for firmware first. The kernel sees the data partition
// even though devd does not. A device that lacked firmware before gets it when it is plugged in again, or after a
// reboot.
func (h *hardwareSettings) applyFirmware(s settings.Settings) error {
	file, path := filepath.Join(h.sys, "module/firmware_class/parameters/path"), ""
	if volume := s.Text(config.FirmwareVolume); volume != "" {
		path = filepath.Join("/mnt/data/volumes", volume)
	}
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(old)) == path {
		return nil
	}
	return os.WriteFile(file, []byte(path+"\n"), 0)
}

func (h *hardwareSettings) applyProfile(name, what string, of func(hardware.Hardware) profiles) error {
	if name == "" {
		return nil // the board keeps its default
	}
	board, err := hardware.Read(h.file)
	if err != nil {
		return err
	}
	profile, err := hardware.Choose(of(board), name, what)
	if err != nil {
		return err
	}
	return profile.Apply(h.sys)
}

// runButton switches the device off at a press of the power button. devd serves devices even if runButton fails.
func runButton(ctx context.Context, held map[string]int, now *devdLife, log *slog.Logger) {
	pressed := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := (pid1.Client{}).Power(ctx, pid1.Shutdown{Action: pid1.PowerOff}); err != nil {
			log.Error("power button has no effect", "error", err)
		}
	}
	cfg := button.Config{Pressed: pressed, Log: log, Held: held, Keep: now.keepButton(log), Drop: dropButton(log)}
	if err := button.Run(ctx, cfg); err != nil {
		log.Warn("power button not watched", "error", err)
	}
}
