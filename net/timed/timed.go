// Package timed owns the part of netd that keeps the system clock right: it asks NTP servers, corrects the clock,
// reports how right the clock is, and saves the time for the next boot.
//
// It never decides (clock does), and nothing ever waits for it. It runs within netd
// (docs/decisions/0020-time-in-netd.md).
//
// Read first: Config, then daemon.run.
package timed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"time"

	"resinos/mounts/atomicfile"
	"resinos/net/clock"
	"resinos/net/clockstatus"
	"resinos/net/lease"
	"resinos/net/savedtime"
	"resinos/services/hostname"
)

// Config holds the paths and hooks of timed.
type Config struct {
	Clock   Clock         // required
	Build   time.Time     // of the image; zero: unknown
	Servers func() string // returns the owner's servers as in config.json, "name name ..."; nil: none
	Changed <-chan struct{}
	Leases  <-chan lease.Lease // receives each new lease; nil: none
	Status  string             // the file of clockstatus.Status; empty: none is written
	Synced  string             // the file that exists while the clock is synchronised; empty: none
	Saved   string             // the file of the saved time; empty: it is not saved
	Log     *slog.Logger       // nil: nothing is logged

	Defaults []string                                                       // nil: the table's
	Port     uint16                                                         // of the servers; 0: 123
	Lookup   func(context.Context, string) ([]netip.Addr, error)            // nil: Lookup
	Ask      func(context.Context, netip.AddrPort, func() time.Time) Answer // nil: Ask
	Save     func(path string, now time.Time) error                         // nil: savedtime.Save
}

func (c Config) withDefaults() (Config, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Servers == nil {
		c.Servers = func() string { return "" }
	}
	if c.Port == 0 {
		c.Port = 123
	}
	if c.Lookup == nil {
		c.Lookup = Lookup
	}
	if c.Ask == nil {
		c.Ask = Ask
	}
	if c.Save == nil {
		c.Save = savedtime.Save
	}
	var err error
	if c.Defaults == nil {
		c.Defaults, err = Defaults()
	}
	return c, err
}

// leasePatience is how long the first question waits for a lease: without a lease no server can be reached, and during
// the boot other work needs the processor. Without DHCP the first question is asked after this time.
const leasePatience = 5 * time.Second

// saveLook is how often a clock that no server corrects is compared with the saved time.
const saveLook = time.Hour

// Run keeps the clock right until ctx is cancelled and all it started has ended.
func Run(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	d := &daemon{
		cfg: cfg, leases: leases{}, done: make(chan func() []clock.Action),
		machine: clock.New(cfg.Build, rand.Uint32),
	}
	defer d.work.Wait()
	defer stop()
	if d.began, err = clockstatus.ProcessStart("/", os.Getpid()); err != nil {
		return err
	}
	d.adopt()
	d.baseline = d.lead()
	d.save(ctx)
	return d.run(ctx)
}

// daemon is the state of timed. One goroutine owns it.
type daemon struct {
	cfg      Config
	machine  *clock.Machine
	leases   leases
	refused  string // the owner's servers that were reported as unusable
	work     sync.WaitGroup
	done     chan func() []clock.Action // news for the machine from the questions in progress
	baseline time.Duration              // the system clock minus the time since the kernel started, as we left it
	start    *clockstatus.Start
	began    uint64 // clockstatus.ProcessStart of this process
	synced   bool   // as Synced says
	unsaved  bool   // saving failed, and that was logged
	saving   bool   // the disk has not answered yet
	again    bool   // the time must be saved again afterwards
}

func (d *daemon) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	look := time.NewTicker(saveLook)
	defer look.Stop()
	begun := false // the first servers were named to the machine
	begin := time.NewTimer(leasePatience)
	defer begin.Stop()
	if d.cfg.Leases == nil {
		begin.Reset(0)
	}
	for first := true; ; first = false {
		if first || !d.machine.Busy() { // a round has many steps
			d.publish()
		}
		if at := d.machine.Deadline(); at != 0 {
			timer.Reset(max(at-d.cfg.Clock.Read().Boot, 0))
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case tell := <-d.done:
			d.act(ctx, tell())
		case <-timer.C:
			d.act(ctx, d.machine.Timer(d.cfg.Clock.Read()))
		case <-d.cfg.Clock.Sets():
			d.wasSet(ctx)
		case l := <-d.cfg.Leases:
			begun = true
			d.leases[l.Link] = l
			d.act(ctx, d.machine.Servers(d.cfg.Clock.Read(), d.sources()))
			d.act(ctx, d.machine.Online(d.cfg.Clock.Read()))
		case <-begin.C:
			begun = true
			d.act(ctx, d.machine.Servers(d.cfg.Clock.Read(), d.sources()))
		case <-d.cfg.Changed:
			if begun { // else it is read then
				d.act(ctx, d.machine.Servers(d.cfg.Clock.Read(), d.sources()))
			}
		case <-look.C:
			d.save(ctx)
		}
	}
}

// sources returns the servers as they are configured now. It reports each unusable server of the owner once.
func (d *daemon) sources() []clock.Source {
	own, refused := clock.SplitServers(d.cfg.Servers(), hostname.ValidServer)
	if text := fmt.Sprintf("%.200q", refused); len(refused) > 0 && text != d.refused {
		d.refused = text
		d.cfg.Log.Warn("ntpServers names no servers", "count", len(refused), "names", text)
	}
	return Sources(d.leases.servers(d.cfg.Clock.Read().Boot), own, d.cfg.Defaults)
}

// act carries out the machine's actions.
func (d *daemon) act(ctx context.Context, actions []clock.Action) {
	for _, a := range actions {
		var err error
		switch a.Verb {
		case clock.Resolve:
			d.work.Go(func() { d.resolve(ctx, a) })
		case clock.Ask:
			d.work.Go(func() { d.ask(ctx, a) })
		case clock.Step:
			err = d.step(a)
		case clock.Slew:
			err = d.cfg.Clock.Slew(a.By, a.PPM)
			d.cfg.Log.Debug("clock slewed", "by", a.By, "ppm", a.PPM)
		case clock.Mark:
			err = d.cfg.Clock.Mark(a.Bound, a.Likely)
			d.save(ctx)
		case clock.Say:
			d.say(a)
		}
		if err != nil {
			d.cfg.Log.Error("clock not corrected", "error", err)
		}
	}
}

func (d *daemon) say(a clock.Action) {
	attrs := []any{"by", a.By}
	if a.Name != "" {
		attrs = append(attrs, "server", a.Name)
	}
	if a.Warn {
		d.cfg.Log.Warn(a.Why, attrs...)
		return
	}
	d.cfg.Log.Info(a.Why, attrs...)
}

func (d *daemon) step(a clock.Action) error {
	err := d.cfg.Clock.Step(a.By)
	d.baseline = d.lead()
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if a.Warn {
		level = slog.LevelWarn
	}
	d.cfg.Log.Log(context.Background(), level, "clock stepped", "by", a.By, "reason", a.Why, "now",
		d.cfg.Clock.Read().Real.UTC().Format(time.RFC3339))
	return nil
}

func (d *daemon) resolve(ctx context.Context, a clock.Action) {
	addrs, err := d.cfg.Lookup(ctx, a.Name)
	fault := ""
	if err != nil {
		fault = say(err)
	}
	d.tell(ctx, func() []clock.Action {
		return d.machine.Resolved(d.cfg.Clock.Read(), a.Name, a.Round, addrs, fault)
	})
}

func (d *daemon) ask(ctx context.Context, a clock.Action) {
	raw := func() time.Time { return d.cfg.Clock.Read().Raw }
	answer := d.cfg.Ask(ctx, netip.AddrPortFrom(a.Address, d.cfg.Port), raw)
	d.tell(ctx, func() []clock.Action {
		return d.machine.Heard(d.cfg.Clock.Read(), a.Name, a.Round, answer.Sample, answer.Kiss, answer.Fault)
	})
}

// tell passes news to the goroutine that owns the machine.
func (d *daemon) tell(ctx context.Context, news func() []clock.Action) {
	select {
	case d.done <- news:
	case <-ctx.Done():
	}
}

// lead is how far the system clock is ahead of the kernel's time since its start. It changes slowly by slewing, and by
// steps.
func (d *daemon) lead() time.Duration {
	r := d.cfg.Clock.Read()
	return r.Real.Sub(time.Unix(0, 0)) - r.Boot
}

// leastSet is the least difference that counts as a step of somebody else: slewing changes both clocks alike, so only
// steps move them apart.
const leastSet = 10 * time.Millisecond

// wasSet finds out whether somebody else has set the clock.
func (d *daemon) wasSet(ctx context.Context) {
	was := d.baseline
	d.baseline = d.lead()
	if by := d.baseline - was; by.Abs() > leastSet {
		d.act(ctx, d.machine.Jumped(d.cfg.Clock.Read(), by))
		// at once: while the next round runs, nobody may read that the clock is synchronised
		d.publish()
	}
}

// save saves the time if that is due. It writes in a goroutine because a disk may hang: netd blocks until timed has
// received its lease.
func (d *daemon) save(ctx context.Context) {
	if d.cfg.Saved == "" {
		return
	}
	if d.saving {
		d.again = true
		return
	}
	d.saving, d.again = true, false
	d.work.Go(func() {
		err := d.saveDue()
		d.tell(ctx, func() []clock.Action {
			d.saved(ctx, err)
			return nil
		})
	})
}

// saved processes the result of saving.
func (d *daemon) saved(ctx context.Context, err error) {
	if err != nil && !d.unsaved {
		d.cfg.Log.Warn("time not saved for the next boot", "error", err)
	}
	d.saving, d.unsaved = false, err != nil
	if d.again {
		d.save(ctx)
	}
}

// saveDue saves the time if that is due.
func (d *daemon) saveDue() error {
	saved, err := savedtime.Read(d.cfg.Saved)
	now := d.cfg.Clock.Read().Real
	if err == nil && !savedtime.Due(saved, now) {
		return nil
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = d.cfg.Save(d.cfg.Saved, now)
	}
	return err
}

// adopt reads what the boot, or an earlier life of the daemon, left.
func (d *daemon) adopt() {
	if d.cfg.Synced != "" {
		_, err := os.Lstat(d.cfg.Synced)
		d.synced = err == nil
	}
	if d.cfg.Status == "" {
		return
	}
	s, err := clockstatus.Load(d.cfg.Status)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.cfg.Log.Warn("earlier status of the clock is lost", "error", err)
		}
		return
	}
	d.start = s.Start
	d.machine.Adopt(s, d.cfg.Clock.PPM())
}

// publish writes the status if it has changed.
func (d *daemon) publish() {
	s := d.machine.Status(d.cfg.Clock.Read())
	s.Start, s.PID, s.Began = d.start, os.Getpid(), d.began
	if s.Origin == "" && d.start != nil {
		s.Origin = d.start.Origin
	}
	d.flag(s.Synchronised)
	if d.cfg.Status == "" {
		return
	}
	text, err := json.Marshal(s)
	if err == nil {
		err = atomicfile.Write(d.cfg.Status, append(text, '\n'), 0o644)
	}
	if err != nil {
		d.cfg.Log.Warn("status of the clock not written", "error", err)
	}
}

// flag creates or removes the file Synced.
func (d *daemon) flag(synced bool) {
	if d.cfg.Synced == "" || synced == d.synced {
		return
	}
	var err error
	if synced {
		err = os.WriteFile(d.cfg.Synced, nil, 0o644)
	} else if err = os.Remove(d.cfg.Synced); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		d.cfg.Log.Warn("synchronisation status not published", "error", err)
		return
	}
	d.synced = synced
}
