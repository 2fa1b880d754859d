package wifi

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"time"

	"resinos/net/wpa"
)

// Directory is where netd and the service wifi meet.
const Directory = "/run/resinos/wifi"

// The files in it. The service starts when Wanted appears or changes, and not without it (services/shipped/wifi.toml).
const (
	wantedFile   = "wanted"
	socketFile   = "control"
	joinedFile   = "joined"
	certificates = "certificates"
)

// Config is what a Driver needs.
type Config struct {
	Directory string                   // empty: the constant
	Conf      string                   // the supplicant's file with settings for every radio; empty: that of the image
	Module    string                   // the supplicant's driver; empty: nl80211
	Changed   func(s map[string]State) // called by Run's goroutine when a state has changed; it gets a copy
	Log       *slog.Logger
}

// Wanted is what the radios are to do.
type Wanted struct {
	Country  string // two letters; empty: the rules that hold everywhere
	OpenScan bool   // looks for networks under the radio's own address
	Radios   map[string][]Network
}

// Driver keeps the supplicant in the state that is wanted, over its deaths. Run is its goroutine.
type Driver struct {
	cfg   Config
	wants chan Wanted // holds at most the newest
	kicks chan struct{}
	asks  chan func(context.Context)

	// The rest belongs to Run.
	wanted  Wanted
	states  map[string]State
	country map[string]string // by radio: what was set
	client  *wpa.Client       // nil: there is none
	quiet   time.Time         // since when nothing is wanted
	again   time.Time         // when to reconcile without an event; zero: never
	scans   []*scan
}

const (
	dialEvery    = 500 * time.Millisecond
	aliveEvery   = 20 * time.Second
	settleEvery  = 5 * time.Second // how often a radio that is joining is looked at: an event may have been lost
	retryEvery   = 10 * time.Second
	quietFor     = time.Minute // how long the supplicant runs with nothing to do
	usualModule  = "nl80211"
	packedConfig = "/usr/lib/packed/uplinks/wpa_supplicant.conf"
)

// New returns a driver. What the radios had joined when an earlier netd ended is in its states.
func New(cfg Config) *Driver {
	if cfg.Directory == "" {
		cfg.Directory = Directory
	}
	if cfg.Conf == "" {
		cfg.Conf = packedConfig
	}
	if cfg.Module == "" {
		cfg.Module = usualModule
	}
	if cfg.Changed == nil {
		cfg.Changed = func(map[string]State) {}
	}
	d := &Driver{cfg: cfg, wants: make(chan Wanted, 1), kicks: make(chan struct{}, 1),
		asks: make(chan func(context.Context)), states: map[string]State{}, country: map[string]string{}}
	for name, file := range d.readJoined() {
		d.states[name] = State{Phase: Starting, File: file}
	}
	return d
}

// Certificates is the directory for certificates that profiles hold themselves, as For wants it.
func (d *Driver) Certificates() string { return filepath.Join(d.cfg.Directory, certificates) }

// JoinedBefore returns by radio the file of the network that it was in when an earlier netd ended. Only before Run.
func (d *Driver) JoinedBefore() map[string]string { return d.readJoined() }

// Want tells Run what the radios are to do from now on. It never blocks.
func (d *Driver) Want(w Wanted) {
	for {
		select {
		case d.wants <- w:
			return
		case <-d.wants: // an older wish that Run has not seen
		}
	}
}

// Kick tells Run that a radio has changed: it looks whether the supplicant lives. It never blocks.
func (d *Driver) Kick() {
	select {
	case d.kicks <- struct{}{}:
	default:
	}
}

// within has Run's goroutine do something.
func (d *Driver) within(ctx context.Context, do func(context.Context)) error {
	done := make(chan struct{})
	select {
	case d.asks <- func(run context.Context) { defer close(done); do(run) }:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// States returns the state of each radio, with the signal as it is now.
func (d *Driver) States(ctx context.Context) (map[string]State, error) {
	var out map[string]State
	err := d.within(ctx, func(ctx context.Context) {
		for name, s := range d.states {
			if s.Phase == Joined && d.client != nil {
				d.signal(ctx, name)
			}
		}
		out = maps.Clone(d.states)
	})
	return out, err
}

// Run drives the radios until ctx ends, and leaves them as they are.
func (d *Driver) Run(ctx context.Context) {
	defer d.disconnect()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var events <-chan wpa.Event
		if d.client != nil {
			events = d.client.Events()
		}
		timer.Reset(d.wait(time.Now()))
		select {
		case <-ctx.Done():
			return
		case w := <-d.wants:
			d.take(ctx, w)
		case <-d.kicks:
			d.ping(ctx)
		case do := <-d.asks:
			select {
			case w := <-d.wants: // what was wanted before somebody asked
				d.take(ctx, w)
			default:
			}
			do(ctx)
		case e, open := <-events:
			if !open {
				d.lost("connection ended")
				break
			}
			d.event(ctx, e)
		case <-timer.C:
			d.tick(ctx)
		}
		d.answerScans(ctx, time.Now())
	}
}

// take takes a wish over.
func (d *Driver) take(ctx context.Context, w Wanted) {
	d.wanted = w
	d.demand(time.Now())
	d.reconcile(ctx)
}

// needed reports whether the supplicant has something to do.
func (d *Driver) needed() bool { return len(d.wanted.Radios) > 0 || len(d.scans) > 0 }

// wait is how long Run may sleep without an event.
func (d *Driver) wait(now time.Time) time.Duration {
	until := aliveEvery
	switch {
	case d.client == nil && d.needed():
		return dialEvery
	case d.client == nil:
		return time.Hour // nothing to do
	case !d.needed():
		until = quietFor - now.Sub(d.quiet)
	}
	if !d.again.IsZero() {
		until = min(until, d.again.Sub(now))
	}
	for _, s := range d.scans {
		until = min(until, s.until.Sub(now))
	}
	for _, s := range d.states {
		if s.Phase == Joining {
			until = min(until, settleEvery)
		}
	}
	return max(until, 0)
}

// tick does what is due.
func (d *Driver) tick(ctx context.Context) {
	now := time.Now()
	switch {
	case d.client == nil && d.needed():
		d.connect(ctx)
	case d.client == nil:
	case !d.needed() && now.Sub(d.quiet) >= quietFor:
		d.end(ctx)
	case !d.again.IsZero() && !now.Before(d.again):
		d.reconcile(ctx)
	default:
		d.ping(ctx)
		d.look(ctx)
	}
}

// look reads the states of all radios, as if all had an event.
func (d *Driver) look(ctx context.Context) {
	for name, before := range d.states {
		if d.client != nil {
			d.read(ctx, name)
			d.report(name, before)
		}
	}
}

// demand writes the file that makes PID 1 start the service, if somebody needs it.
func (d *Driver) demand(now time.Time) {
	if !d.needed() {
		d.quiet = now
		return
	}
	path := filepath.Join(d.cfg.Directory, wantedFile)
	if _, err := os.Stat(path); err == nil {
		return
	}
	err := os.MkdirAll(d.cfg.Directory, 0o700)
	if err == nil {
		err = os.WriteFile(path, nil, 0o600)
	}
	if err != nil {
		d.cfg.Log.Warn("wifi not demanded", "error", err)
	}
}

// connect begins to speak with the supplicant, if it runs.
func (d *Driver) connect(ctx context.Context) {
	d.demand(time.Now())
	client, err := wpa.Dial(ctx, filepath.Join(d.cfg.Directory, socketFile))
	if err != nil {
		return // PID 1 starts it, or reports why not; it is tried again
	}
	d.client, d.country = client, map[string]string{}
	d.cfg.Log.Info("wifi connected to its supplicant")
	d.reconcile(ctx)
	for _, s := range d.scans {
		d.beginScan(ctx, s)
	}
}

func (d *Driver) disconnect() {
	if d.client != nil {
		d.client.Close()
		d.client = nil
	}
}

// lost handles that the supplicant has died. PID 1 starts it again.
func (d *Driver) lost(why string) {
	d.cfg.Log.Warn("wifi lost its supplicant", "reason", why)
	d.disconnect()
	for name, s := range d.states {
		s.Phase, s.Signal, s.Reason = Starting, 0, "wpa_supplicant does not run"
		d.states[name] = s
	}
	d.publish()
}

// ping finds out whether the supplicant lives: a socket of its kind does not say when the other side has died.
func (d *Driver) ping(ctx context.Context) {
	if d.client == nil {
		return
	}
	if err := d.client.Do(ctx, "PING"); err != nil && ctx.Err() == nil {
		d.lost(err.Error())
	}
}

// end ends the supplicant: nobody needs it any more.
func (d *Driver) end(ctx context.Context) {
	if err := os.Remove(filepath.Join(d.cfg.Directory, wantedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.cfg.Log.Warn("wifi not ended", "error", err)
		d.quiet = time.Now() // later
		return
	}
	_ = d.client.Do(ctx, "TERMINATE") // if it is gone, all is well
	d.disconnect()
	clear(d.states)
	d.publish()
	d.cfg.Log.Info("wifi ended: nothing is wanted of it")
}
