package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"resinos/bsp/kmod"
	"resinos/bsp/uevent"
	"resinos/services/pid1"
)

// displays are the modaliases of displays: the PCI devices of their class, and the one behind a virtio GPU of that
// class.
var displays = [...]string{"pci:*bc03*", "virtio:d00000010v*"}

// display reports whether there is a display that the bus tells of.
func display() bool { return uevent.There("/sys", displays[0]) }

// loadDisplays loads the drivers of displays.
func loadDisplays() error {
	loader, err := kmod.OpenRunning()
	if err != nil {
		return err
	}
	var faults []error
	for _, pattern := range displays {
		for _, d := range uevent.Like("/sys", pattern) {
			_, err := loader.Serve(d.Modalias)
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// A screen is the framebuffer that an app or the splash draws on. Each driver that brings one has it begin dark.
type screen struct {
	at   string // the link in sysfs that leads to the device of the screen
	last string // where it led
	draw func() // has the splash drawn; does not wait
}

// newScreen takes note of the screen that firmware or kernel have brought: PID 1 has the splash drawn there.
func newScreen(ctx context.Context, beside *sync.WaitGroup, log *slog.Logger) *screen {
	s := &screen{at: "/sys/class/graphics/fb0", draw: func() {
		beside.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			// Each fails if there is no such service here, or if its conditions do not hold. The placard of getty,
			// which rests while there is no screen.
			if _, err := (pid1.Client{}).Change(ctx, pid1.Restart, "splash"); err != nil {
				log.Debug("no splash", "error", err)
			}
			if _, err := (pid1.Client{}).Change(ctx, pid1.Start, "getty"); err != nil {
				log.Debug("no placard", "error", err)
			}
		})
	}}
	s.last, _ = os.Readlink(s.at) // empty: there is none
	return s
}

// look has the splash drawn if another driver brings the screen now.
func (s *screen) look() {
	now, _ := os.Readlink(s.at)
	if now != s.last && now != "" {
		s.draw()
	}
	s.last = now
}
