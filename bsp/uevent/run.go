package uevent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"resinos/bsp/kmod"
)

// Config is what Run needs.
type Config struct {
	SysRoot string       // "/sys" if empty
	DevRoot string       // "/dev" if empty
	Loader  *kmod.Loader // loads what devices need; nil loads nothing
	Ready   func()       // called once when all devices that existed at the start are done; may be nil
	Log     *slog.Logger
	Alive   Pulse // called at each step forward; nil: there is no watchdog

	// Prepare is called once, when the devices that the boot waits for have their modules and the others do not; may be
	// nil.
	Prepare func()
	// Served is called when modules were loaded for a device; may be nil.
	Served func()
	// Event is told of each event, when the device has its module and its node the mode of our table; may be nil.
	Event func(Event)
	// Lost is called when events were lost, after all devices were looked at again; may be nil.
	Lost func()

	// Events is where events come from; nil: Run opens a socket. Run closes it.
	Events *Listener
	// Continues says that an earlier Run has served all devices, and that Events has every event since.
	Continues bool
	// Idle ends Run when no event has come for so long and Busy, unless that is nil, returns false. 0: Run never ends.
	Idle time.Duration
	Busy func() bool
}

// Pulse receives a sign of life from a main loop (the Pulse of services/notify).
type Pulse interface {
	Until() time.Time // the latest time for the next sign of life; zero: never
	Beat()
}

// unwatched is the Pulse of a daemon without a watchdog.
type unwatched struct{}

func (unwatched) Until() time.Time { return time.Time{} }
func (unwatched) Beat()            {}

// loader is the part of kmod.Loader that a daemon uses.
type loader interface {
	Serve(modalias string) (loaded []string, err error)
}

// noModules is the loader for a kernel whose modules are missing: nodes and modes are still maintained.
type noModules struct{}

func (noModules) Serve(string) ([]string, error) { return nil, nil }

type daemon struct {
	sysRoot, devRoot string
	loader           loader
	rules            []Rule
	log              *slog.Logger
	alive            Pulse
	prepare, lost    func()
	served           func()
	event            func(Event)
	idle             time.Duration
	busy             func() bool
}

// Run handles the devices that exist, then each new one, one at a time in the kernel's order, until ctx ends or nothing
// has happened for cfg.Idle. Events that arrive meanwhile wait in the socket; if that overflows, Run looks at all
// devices again.
func Run(ctx context.Context, cfg Config) error {
	d := &daemon{sysRoot: cfg.SysRoot, devRoot: cfg.DevRoot, loader: noModules{}, log: cfg.Log, alive: cfg.Alive,
		prepare: cfg.Prepare, event: cfg.Event, lost: cfg.Lost, served: cfg.Served, idle: cfg.Idle, busy: cfg.Busy}
	if d.alive == nil {
		d.alive = unwatched{}
	}
	if d.sysRoot == "" {
		d.sysRoot = "/sys"
	}
	if d.devRoot == "" {
		d.devRoot = "/dev"
	}
	var err error
	if d.rules, err = Rules(); err != nil {
		return err
	}
	events := cfg.Events
	if events == nil {
		if events, err = Listen(); err != nil { // before looking around, so that no event is missed
			return err
		}
	}
	defer events.Close() // nothing is written to it
	if cfg.Loader != nil {
		d.loader = cfg.Loader
	}
	d.begin(cfg)
	if cfg.Ready != nil {
		cfg.Ready()
	}
	return d.follow(ctx, events)
}

// begin serves the devices that exist, unless an earlier Run has done so.
func (d *daemon) begin(cfg Config) {
	if cfg.Continues {
		d.prepared()
		return
	}
	if cfg.Loader != nil {
		if err := makeNodes(d.devRoot, cfg.Loader.Index().Nodes()); err != nil {
			d.log.Warn("device nodes not created", "error", err)
		}
	}
	d.coldplug()
}

// prepared calls prepare, once.
func (d *daemon) prepared() {
	if d.prepare != nil {
		d.prepare()
		d.prepare = nil
	}
}

// source is where events come from.
type source interface {
	Next(ctx context.Context, until time.Time) (Event, error)
}

func (d *daemon) follow(ctx context.Context, events source) error {
	idle := d.idleAt()
	for {
		d.alive.Beat()
		e, err := events.Next(ctx, earlier(d.alive.Until(), idle))
		expired := errors.Is(err, os.ErrDeadlineExceeded)
		if expired && !idle.IsZero() && !time.Now().Before(idle) {
			if d.busy == nil || !d.busy() {
				return nil
			}
			idle = d.idleAt()
		} else if !expired {
			idle = d.idleAt()
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case expired:
		case errors.Is(err, ErrLost):
			d.log.Warn("uevents lost, reading all devices again")
			d.coldplug()
			if d.lost != nil {
				d.lost()
			}
		case err != nil:
			return err
		default:
			d.handle(e)
		}
	}
}

// idleAt is when follow ends if nothing happens from now on; zero: never.
func (d *daemon) idleAt() time.Time {
	if d.idle == 0 {
		return time.Time{}
	}
	return time.Now().Add(d.idle)
}

// earlier returns the earlier of two times of which each may be zero, for never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (d *daemon) coldplug() {
	devices := Present(d.sysRoot)
	loaded, at := 0, 0
	for ; at < len(devices) && urgency(devices[at]) == 0; at++ {
		loaded += d.serve(devices[at].Path, devices[at].Modalias)
	}
	d.prepared()
	atLowPriority(func() {
		for _, dev := range devices[at:] {
			loaded += d.serve(dev.Path, dev.Modalias)
		}
	})
	if err := applyModes(d.devRoot, d.rules); err != nil {
		d.log.Warn("device node modes not set", "error", err)
	}
	d.log.Info("devices served", "devices", len(devices), "modules", loaded)
}

func (d *daemon) handle(e Event) {
	if e.Action == "add" {
		d.added(e)
	}
	if d.event != nil {
		d.event(e)
	}
}

func (d *daemon) added(e Event) {
	if e.Modalias != "" {
		d.serve(e.Path, e.Modalias)
	}
	if mode, found := ModeOf(d.rules, e.Node); found {
		if err := setMode(filepath.Join(d.devRoot, e.Node), mode); err != nil {
			d.log.Warn("device node mode not set", "node", e.Node, "error", err)
		}
	}
}

func (d *daemon) serve(path, modalias string) int {
	d.alive.Beat()
	loaded, err := d.loader.Serve(modalias)
	if err != nil {
		d.log.Warn("module not loaded", "device", path, "error", err)
	}
	for _, name := range loaded {
		d.log.Debug("module loaded", "module", name, "device", path)
	}
	if len(loaded) > 0 && d.served != nil {
		d.served()
	}
	return len(loaded)
}
