package modem

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
	"resinos/net/cellular"
	"resinos/net/modembus"
	"resinos/net/modemports"
	"resinos/net/modemstate"
)

// driver keeps the modems as netd wants them. Its goroutine is that of run.
type driver struct {
	directory string // where netd and the driver meet
	packed    string // where ModemManager, pppd and their libraries are
	hook      string // what pppd starts when a connection is up
	sys       string
	kept      string // what outlives a reboot
	log       *slog.Logger

	wanted modemstate.Wanted
	bus    *modembus.Conn
	modems map[dbus.ObjectPath]*unit
	ports  map[modemports.Port]bool // announced to this ModemManager
	absent absent
	kicks  chan struct{} // something has changed; holds one
	done   chan func()   // what a task of the driver has found; run's goroutine runs it
	tasks  sync.WaitGroup
	last   modemstate.State // as written
}

// unit is what the driver knows of one modem.
type unit struct {
	busy     bool // a call is under way
	used     modemstate.Profile
	failures int
	until    time.Time // the next try is not before
	reason   string    // of the last failure
	phase    modemstate.Phase
	bearer   modemstate.Bearer
	ppp      *pppd
}

// The pauses of the driver.
const (
	lookEvery = 10 * time.Second // at modems, without an event
	callLimit = 3 * time.Minute  // of one call: a modem may search that long
	restart   = 5 * time.Second
)

// run runs ModemManager until ctx ends, or netd wants nothing any more.
func (d *driver) run(ctx context.Context) error {
	if err := os.MkdirAll(d.directory, 0o700); err != nil {
		return err
	}
	d.kicks, d.done = make(chan struct{}, 1), make(chan func())
	ctx, stop := context.WithCancel(ctx)
	defer d.tasks.Wait()
	defer stop()
	d.tasks.Go(func() { d.watch(ctx, d.directory, unix.IN_MOVED_TO|unix.IN_DELETE) })
	d.tasks.Go(func() { d.watch(ctx, "/dev", unix.IN_CREATE|unix.IN_DELETE) })
	d.last.Modems = []modemstate.Modem{} // unlike what an earlier life may have left
	d.write(modemstate.State{})
	defer d.write(modemstate.State{})
	for {
		err := d.withManager(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		d.log.Warn("ModemManager ended", "error", err, "retry", restart)
		d.write(modemstate.State{})
		select {
		case <-time.After(restart):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// watch kicks the driver when something changes in a directory.
func (d *driver) watch(ctx context.Context, directory string, mask uint32) {
	w, err := dirwatch.Open(directory, mask, d.log)
	if err != nil {
		d.log.Warn("directory not watched", "error", err)
		return
	}
	defer w.Close() // it is read no more
	for w.Wait(ctx, 0) == nil {
		d.kick()
	}
}

func (d *driver) kick() {
	select {
	case d.kicks <- struct{}{}:
	default:
	}
}

// withManager runs one life of ModemManager. nil: nothing is wanted any more.
func (d *driver) withManager(ctx context.Context) error {
	socket := filepath.Join(d.directory, "bus")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	defer listener.Close() // the program is done with it
	ctx, stop := context.WithCancel(ctx)
	var life sync.WaitGroup
	defer life.Wait()
	defer stop()
	ended := make(chan error, 2)
	life.Go(func() { ended <- d.manager(ctx, socket) })
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	accepted := make(chan net.Conn, 1)
	life.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			ended <- err
			return
		}
		accepted <- conn
	})
	select {
	case conn := <-accepted:
		d.bus = modembus.New(conn, d.kick)
		life.Go(func() { ended <- d.bus.Serve(ctx) })
	case err := <-ended:
		return err
	}
	d.modems, d.ports, d.absent = map[dbus.ObjectPath]*unit{}, map[modemports.Port]bool{}, absent{}
	defer d.release()
	return d.serve(ctx, ended)
}

// serve drives the modems until ModemManager ends, or nothing is wanted of it.
func (d *driver) serve(ctx context.Context, ended <-chan error) error {
	select {
	case <-d.bus.Named():
	case err := <-ended:
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-ended:
			return err
		case do := <-d.done:
			do()
		case <-d.kicks:
		case <-timer.C:
		}
		there, err := d.read()
		if err != nil {
			d.log.Warn("wishes not read", "error", err)
		} else if !there {
			return nil
		}
		d.announce(ctx)
		timer.Reset(d.look(ctx))
	}
}

// read reads what netd wants. false: nothing.
func (d *driver) read() (bool, error) {
	var w modemstate.Wanted
	there, err := modemstate.Read(d.directory, modemstate.WantedFile, &w)
	if err == nil {
		d.wanted = w
	}
	return there, err
}

// release ends all connections.
func (d *driver) release() {
	for _, u := range d.modems {
		u.ppp.end()
	}
	d.modems = nil
}

// announce tells ModemManager which ports there are: without udev, it learns of them only so.
func (d *driver) announce(ctx context.Context) {
	var named []string
	for _, p := range d.wanted.Profiles {
		named = append(named, p.Port)
	}
	there := map[modemports.Port]bool{}
	for _, p := range modemports.Find(d.sys, named) {
		there[p] = d.ports[p] || d.report(ctx, "add", p)
	}
	for p := range d.ports {
		if _, is := there[p]; !is {
			d.report(ctx, "remove", p)
		}
	}
	d.ports = there
}

// again announces the ports of modems once more, as if they had been pulled out and plugged in.
func (d *driver) again(ctx context.Context, hardware []string) {
	for _, device := range hardware {
		d.log.Warn("modem not known to ModemManager", "path", device)
		for _, action := range []string{"remove", "add"} {
			for p := range d.ports {
				if p.Device == device {
					d.ports[p] = d.report(ctx, action, p)
				}
			}
		}
	}
}

// report tells ModemManager of one port, and whether that went well.
func (d *driver) report(ctx context.Context, action string, p modemports.Port) bool {
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	d.log.Info("modem port", "action", action, "device", p.Name)
	_, err := d.bus.Call(ctx, cellular.Root, cellular.Interface, "ReportKernelEvent", map[string]dbus.Variant{
		"action": dbus.MakeVariant(action), "name": dbus.MakeVariant(p.Name),
		"subsystem": dbus.MakeVariant(p.Subsystem)})
	if err != nil {
		d.log.Warn("modem port not announced", "device", p.Name, "error", err)
	}
	return err == nil
}

// look looks at all modems and does the next step of each. It returns when to look again.
func (d *driver) look(ctx context.Context) time.Duration {
	ctx2, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	reply, err := d.bus.Call(ctx2, cellular.Root, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
	if err != nil {
		d.log.Warn("modems not listed", "error", err)
		return lookEvery
	}
	modems := cellular.Modems(reply)
	sims := map[dbus.ObjectPath]cellular.SIM{}
	for _, m := range modems {
		if m.SIM != "" {
			sims[m.Path] = cellular.ReadSIM(d.properties(ctx2, m.SIM, cellular.Interface+".Sim"))
		}
	}
	chosen := cellular.Choose(d.wanted.Profiles, modems, sims)
	d.forget(modems)
	d.again(ctx, d.absent.again(time.Now(), d.ports, modems))
	wait := lookEvery
	state := modemstate.State{}
	for _, m := range modems {
		u := d.modems[m.Path]
		if u == nil {
			u = &unit{}
			d.modems[m.Path] = u
			d.log.Info("modem found", "device", m.Port, "kind", m.Model)
		}
		s := cellular.Situation{Modem: m, SIM: sims[m.Path], Last: u.reason}
		if i, any := chosen[m.Path]; any {
			s.Profile = &d.wanted.Profiles[i]
		}
		if left := time.Until(u.until); left > 0 {
			s.Pause, wait = left, min(wait, left)
		}
		state.Modems = append(state.Modems, d.drive(ctx, u, s))
	}
	d.write(state)
	return wait
}

// properties returns the reply of GetAll; empty if the object has gone.
func (d *driver) properties(ctx context.Context, path dbus.ObjectPath, iface string) []any {
	reply, err := d.bus.Call(ctx, path, "org.freedesktop.DBus.Properties", "GetAll", iface)
	if err != nil {
		d.log.Debug("properties not read", "path", string(path), "error", err)
	}
	return reply
}

// forget drops the modems that have gone.
func (d *driver) forget(modems []cellular.Modem) {
	for path, u := range d.modems {
		if !slices.ContainsFunc(modems, func(m cellular.Modem) bool { return m.Path == path }) {
			d.log.Warn("modem gone", "state", string(u.phase))
			u.ppp.end()
			delete(d.modems, path)
		}
	}
}

// drive does the next step of one modem, and returns what it does.
func (d *driver) drive(ctx context.Context, u *unit, s cellular.Situation) modemstate.Modem {
	m := s.Modem
	out := modemstate.Modem{Port: m.Port, Model: m.Model, Operator: m.Operator, Technology: m.Technology,
		Roaming: m.Roaming, Signal: m.Signal, Phase: u.phase, Reason: u.reason}
	if s.Profile != nil {
		out.File = s.Profile.File
		s.Changed = u.used.File == s.Profile.File && !reflect.DeepEqual(u.used, *s.Profile)
		s.Refused = d.pins().Refused(m.Identity(s.SIM), s.Profile.PIN, m.Retries)
	}
	if u.busy {
		return out
	}
	if err := u.up(); err != nil {
		d.log.Warn("connection not read", "error", err)
	}
	s.Used, s.Bearer = u.used.File, u.bearer.Link != "" || u.ppp.running()
	step := cellular.Plan(s)
	if step.Phase == modemstate.Connected && u.bearer.Link == "" {
		step.Phase = modemstate.Connecting // pppd speaks with the network
	}
	if u.phase != step.Phase || step.Reason != "" && step.Reason != out.Reason {
		d.log.Info("modem state", "device", m.Port, "state", string(step.Phase), "reason", step.Reason)
	}
	u.phase, out.Phase, out.Reason = step.Phase, step.Phase, step.Reason
	if step.Phase == modemstate.Connected {
		u.failures, out.Bearer = 0, u.bearer
	}
	if step.Verb != cellular.Wait {
		u.reason = step.Reason
		d.begin(ctx, u, s, step.Verb)
	} else if step.Reason != "" {
		u.reason = step.Reason
	}
	return out
}

func (d *driver) pins() cellular.PINs { return cellular.PINs{Path: filepath.Join(d.kept, "pins.json")} }

// begin carries a step out beside run's goroutine: a modem may take minutes.
func (d *driver) begin(ctx context.Context, u *unit, s cellular.Situation, verb cellular.Verb) {
	u.busy = true
	d.log.Info("modem step", "device", s.Modem.Port, "step", string(verb), "file", s.Used)
	bus := d.bus
	d.tasks.Go(func() {
		call, stop := context.WithTimeout(ctx, callLimit)
		defer stop()
		var finish func(context.Context)
		var err error
		switch verb {
		case cellular.SendPIN:
			err = d.unlock(call, bus, s)
		case cellular.Connect:
			finish, err = d.connect(call, bus, u, s)
		case cellular.Disconnect:
			u.ppp.end()
			_, err = bus.Call(call, s.Modem.Path, cellular.Interface+".Modem.Simple", "Disconnect",
				dbus.ObjectPath("/"))
		}
		result := func() { d.finished(ctx, u, s, verb, err, finish) }
		d.within(ctx, result)
	})
}

// finished takes over what a step has come to.
func (d *driver) finished(ctx context.Context, u *unit, s cellular.Situation, verb cellular.Verb, err error,
	finish func(context.Context)) {
	u.busy = false
	if verb == cellular.Disconnect {
		u.bearer, u.ppp, u.used = modemstate.Bearer{}, nil, modemstate.Profile{}
	}
	if err == nil {
		if finish != nil {
			finish(ctx)
		}
		return
	}
	u.failed(reason(err))
	d.log.Warn("modem step failed", "device", s.Modem.Port, "step", string(verb), "reason", u.reason,
		"retry", time.Until(u.until).Round(time.Second))
}

// failed has the next try wait.
func (u *unit) failed(why string) {
	u.failures++
	u.until = time.Now().Add(cellular.Pause(u.failures))
	u.reason = why
}

// reason says in short why a step has failed.
func reason(err error) string {
	if refused, is := errors.AsType[*modembus.Error](err); is {
		return cellular.Words(refused.Name, refused.Text)
	}
	return cellular.Printable(err.Error())
}

// unlock sends the PIN, of which it has been written down before that it is tried.
func (d *driver) unlock(ctx context.Context, bus *modembus.Conn, s cellular.Situation) error {
	identity := s.Modem.Identity(s.SIM)
	if err := d.pins().Begin(identity, s.Profile.PIN, s.Modem.Retries, rand.Text); err != nil {
		return err
	}
	d.log.Info("modem gets its PIN", "device", s.Modem.Port, "file", s.Profile.File, "count", s.Modem.Retries)
	_, err := bus.Call(ctx, s.Modem.SIM, cellular.Interface+".Sim", "SendPin", s.Profile.PIN)
	if err == nil {
		return d.pins().Taken(identity)
	}
	if refused, is := errors.AsType[*modembus.Error](err); is && cellular.PINWrong(refused.Name) {
		err = errors.Join(err, d.pins().Failed(identity))
	}
	return err
}

// connect has the modem connect, and starts pppd if the connection is one of PPP.
func (d *driver) connect(ctx context.Context, bus *modembus.Conn, u *unit, s cellular.Situation) (func(context.Context),
	error) {
	reply, err := bus.Call(ctx, s.Modem.Path, cellular.Interface+".Modem.Simple", "Connect",
		cellular.Request(*s.Profile))
	if err != nil {
		return nil, err
	}
	path, is := dbus.ObjectPath(""), false
	if len(reply) > 0 {
		path, is = reply[0].(dbus.ObjectPath)
	}
	if !is {
		return nil, errors.New("ModemManager names no connection")
	}
	reply, err = bus.Call(ctx, path, "org.freedesktop.DBus.Properties", "GetAll", cellular.Interface+".Bearer")
	if err != nil {
		return nil, err
	}
	b := cellular.ReadBearer(path, reply)
	if !b.Connected {
		return nil, errors.New("ModemManager's connection has no port")
	}
	used := *s.Profile
	if !b.PPP {
		return func(context.Context) { u.used, u.bearer = used, b.IP }, nil
	}
	p := &pppd{line: b.Port, directory: d.directory, packed: d.packed, hook: d.hook, log: d.log}
	if err := p.start(used); err != nil {
		return nil, fmt.Errorf("start pppd: %w", err)
	}
	return func(ctx context.Context) {
		u.used, u.ppp, u.bearer = used, p, modemstate.Bearer{}
		d.tasks.Go(func() { d.follow(ctx, u, p) })
	}, nil
}

// write tells netd what the modems do, if that has changed.
func (d *driver) write(s modemstate.State) {
	if reflect.DeepEqual(s, d.last) {
		return
	}
	if err := modemstate.Write(d.directory, modemstate.StateFile, s); err != nil {
		d.log.Warn("state not written", "error", err)
		return
	}
	d.last = s
}
