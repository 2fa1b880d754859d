// Package button owns the power button: it finds the input devices with that key, also those that are plugged in later,
// and reports when the key is pressed.
//
// It never decides what a press means, and reads no other key, so never what people type. It polls only while inotify
// is used up. Read Run first.
package button

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Config is what Run needs.
type Config struct {
	DevRoot string // "/dev" if empty
	SysRoot string // "/sys" if empty
	Pressed func() // called at a press, never twice at the same time; presses meanwhile count as one
	Log     *slog.Logger

	// Held are the descriptors, by the names of their nodes, of power buttons that an earlier life of the daemon has
	// left with Keep; Run closes them. Keep leaves one for the next life and Drop takes it back. All may be nil.
	Held map[string]int
	Keep func(name string, fd int)
	Drop func(name string)
}

// mostDevices limits how many devices are open: keyboards have the key too.
const mostDevices = 16

type daemon struct {
	dev, sys string
	log      *slog.Logger
	keep     func(name string, fd int)
	drop     func(name string)
	inputs   *directory
	open     map[string]*os.File // by the name of the node; each has a reader
	readers  sync.WaitGroup
	pressed  chan string // names of nodes; never closed
	ended    chan end    // never closed
}

// end reports that a reader has ended.
type end struct {
	name string
	err  error
}

// Run calls cfg.Pressed at each press of a power button until ctx ends. Devices may come and go. It fails only if it
// cannot learn of new devices.
func Run(ctx context.Context, cfg Config) error {
	d := &daemon{
		dev: cfg.DevRoot, sys: cfg.SysRoot, log: cfg.Log,
		open: map[string]*os.File{}, pressed: make(chan string, 1), ended: make(chan end), keep: cfg.Keep,
		drop: cfg.Drop,
	}
	if d.dev == "" {
		d.dev = "/dev"
	}
	if d.sys == "" {
		d.sys = "/sys"
	}
	var err error
	if d.inputs, err = watch(d.dev, d.log); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	changed := make(chan error) // never closed
	d.readers.Go(func() { d.inputs.follow(ctx, changed) })
	defer d.last(cfg.Pressed)
	defer d.readers.Wait()
	defer d.close()
	defer stop()
	for name, fd := range cfg.Held {
		unix.CloseOnExec(fd)
		_ = unix.SetNonblock(fd, true) // it was opened so
		d.begin(ctx, name, os.NewFile(uintptr(fd), d.node(name)))
	}
	if err := d.look(ctx); err != nil {
		return err
	}
	return d.serve(ctx, changed, cfg.Pressed)
}

func (d *daemon) serve(ctx context.Context, changed <-chan error, pressed func()) error {
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case name := <-d.pressed:
			d.log.Info("power button pressed", "path", d.node(name))
			pressed()
		case err = <-changed:
			if err == nil {
				err = d.look(ctx)
			}
		case e := <-d.ended:
			err = d.forget(ctx, e)
		}
		if err != nil {
			return err
		}
	}
}

func (d *daemon) node(name string) string { return filepath.Join(d.dev, inputDirectory, name) }

// look opens the power buttons that exist and are not open yet.
func (d *daemon) look(ctx context.Context) error {
	if err := d.inputs.aim(); err != nil {
		return err
	}
	nodes, err := filepath.Glob(d.node("event*"))
	if err != nil {
		return nil // only a bad pattern fails
	}
	for _, node := range nodes {
		name := filepath.Base(node)
		if d.open[name] != nil {
			continue
		}
		if err := d.add(ctx, name); err != nil && !gone(err) {
			d.log.Warn("input device not watched", "path", node, "error", err)
		}
	}
	return nil
}

// gone reports whether an error means that the device was removed meanwhile.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

// add opens the device if it has a power button; close or forget end its reader.
func (d *daemon) add(ctx context.Context, name string) error {
	bitmap, err := os.ReadFile(filepath.Join(d.sys, "class/input", name, "device/capabilities/key"))
	if err != nil {
		return err
	}
	if has, err := holds(string(bitmap), keyPower); err != nil || !has {
		return err
	}
	if len(d.open) == mostDevices {
		return errors.New("too many power buttons")
	}
	file, err := os.OpenFile(d.node(name), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if err := onlyPower(file); err != nil { // more events than wanted do no harm
		d.log.Debug("input device gives all keys", "path", file.Name(), "error", err)
	}
	if raw, err := file.SyscallConn(); err == nil && d.keep != nil {
		_ = raw.Control(func(fd uintptr) { d.keep(name, int(fd)) }) // fails only if it is closed
	}
	d.begin(ctx, name, file)
	d.log.Info("power button found", "path", file.Name())
	if early(d.sys) { // it was pressed before its device was open
		d.press(name)
	}
	return nil
}

// begin reads a device until it is closed.
func (d *daemon) begin(ctx context.Context, name string, file *os.File) {
	d.open[name] = file
	d.readers.Go(func() { d.read(ctx, name, file) })
}

// last passes on a press that a reader has taken from the kernel while Run ended: nobody else will see it.
func (d *daemon) last(pressed func()) {
	select {
	case name := <-d.pressed:
		d.log.Info("power button pressed", "path", d.node(name))
		pressed()
	default:
	}
}

// press passes a press on, unless one is waiting already.
func (d *daemon) press(name string) {
	select {
	case d.pressed <- name:
	default:
	}
}

// read passes presses on until the device is gone or closed.
func (d *daemon) read(ctx context.Context, name string, file *os.File) {
	buffer := make([]byte, 16*eventSize) // the kernel gives whole events
	for {
		n, err := file.Read(buffer)
		if presses(buffer[:n]) > 0 {
			d.press(name)
		}
		if err != nil {
			select {
			case d.ended <- end{name, err}:
			case <-ctx.Done():
			}
			return
		}
	}
}

// forget drops a device whose reader has ended. The kernel removes the node of an unplugged device before its reader
// notices, so a node with this name belongs to another device. Looking again finds it.
func (d *daemon) forget(ctx context.Context, e end) error {
	_ = d.open[e.name].Close() // nothing was written
	delete(d.open, e.name)
	if d.drop != nil {
		d.drop(e.name)
	}
	if gone(e.err) {
		return d.look(ctx)
	}
	d.log.Warn("power button lost", "path", d.node(e.name), "error", e.err)
	return nil
}

// close wakes all readers.
func (d *daemon) close() {
	_ = d.inputs.close() // nothing was written, as for the devices
	for _, file := range d.open {
		_ = file.Close()
	}
}
