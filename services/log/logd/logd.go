// Package logd moves the lines of all producers into the log ring.
//
// It reads the pipes of services/log/pipe, the kernel's log and /dev/log, splits them into lines, limits each source,
// writes to services/log/ring, and has services/log/query answer queries. It may be killed at any moment without losing
// or doubling a line: bytes move from pipe to spool by splice(2), syslog messages stay in their socket until they are
// written, and the position up to which a source was read is written together with the entries. No source can starve
// another, because each has a bounded turn. logd waits on one epoll and uses no processor time while nothing is
// written. services/log/archive keeps the log beyond the boot; nothing else here writes to flash. logd sends PID 1 only
// its watchdog messages, and never blocks on a reader. Read Config first, then collector.
package logd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
	"resinos/services/boottime"
	"resinos/services/log/archive"
	"resinos/services/log/pipe"
	"resinos/services/log/query"
	"resinos/services/log/ring"
	"resinos/services/log/spool"
	"resinos/services/log/syslog"
	"resinos/services/notify"
)

// RingDir is where logd keeps its ring on the device.
const RingDir = "/run/resinos/log-ring"

// NoKmsg as Config.Kmsg leaves the kernel's log alone; NoSyslog as Config.Syslog makes no /dev/log.
const (
	NoKmsg   = "-"
	NoSyslog = "-"
)

// Config holds paths, limits and callbacks. A zero field stands for the device's own value.
type Config struct {
	Dir       string // of the pipes
	RingDir   string // of the ring and the spools, on a RAM file system
	RingBytes int64  // budget of the ring
	Socket    string // where queries are answered
	Kmsg      string // the kernel's log
	Syslog    string // where syslog(3) writes to

	// Kept, if not 0, is the socket at Syslog that an earlier life created. Keep, if not nil, is called with a socket
	// that this life has created: the receiver holds it and passes it to the next life as Kept; until then messages
	// wait in it.
	Kept int
	Keep func(fd int) error

	Archive Archive // the log that outlives the boot

	// Rate and Burst limit each source but the kernel: lines a second on average (NoLimit: any number), and lines at
	// once. Further lines are dropped and counted.
	Rate, Burst int

	// Log must not block on anything but a pipe in Dir.
	Log *slog.Logger
	// OnFirstOutput, if not nil, is called in a goroutine of its own when a container has written its first byte. A
	// restarted logd calls it again with the time of the oldest container entry in the ring, in case its earlier life
	// did not: the receiver keeps the first call.
	OnFirstOutput func(kind string, at time.Duration)
	// Ready, if not nil, is called when all pipes are open and queries are answered.
	Ready func()
	// Alive gets a beat at each round of the collector; nil: there is no watchdog.
	Alive *notify.Pulse
}

// Archive says where and how the log is kept beyond the boot. With the zero Archive nothing is kept or read.
type Archive struct {
	Place    archive.Place // nil: nowhere
	Dir      string        // where Place's directory is read, also while nothing is written
	Bytes    int64         // budget on flash
	Interval time.Duration // the longest time whose entries a power cut loses

	// Wanted reports whether the log is to be kept now; Changed, which may be nil, gets a value when the answer may
	// have changed.
	Wanted  func() bool
	Changed <-chan struct{}
}

func (c Config) withDefaults() Config {
	for _, field := range []struct {
		value   *string
		instead string
	}{{&c.Dir, pipe.Dir}, {&c.RingDir, RingDir}, {&c.Socket, query.SocketPath}, {&c.Kmsg, "/dev/kmsg"},
		{&c.Syslog, syslog.Path}} {
		if *field.value == "" {
			*field.value = field.instead
		}
	}
	if c.RingBytes == 0 {
		c.RingBytes = ring.DefaultSize
	}
	if c.Rate == 0 {
		c.Rate = DefaultRate
	}
	if c.Burst == 0 {
		c.Burst = DefaultBurst
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Run reads sources and answers queries until ctx is done, and then returns nil. All goroutines that it started have
// ended by then.
func Run(ctx context.Context, cfg Config) (err error) {
	cfg = cfg.withDefaults()
	runtime.GOMAXPROCS(1) // enough for a copying loop
	boot, err := bootID()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.RingDir, 0o700); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	ring, dropped, err := ring.Open(cfg.RingDir, fitRing(cfg.RingBytes, cfg.RingDir, cfg.Log), boot, now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ring.Close()) }()
	if dropped > 0 {
		cfg.Log.Warn("torn end of the log dropped", "bytes", dropped)
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	c, err := newCollector(cfg, ring, &wg)
	if err != nil {
		return err
	}
	defer c.close()
	store := query.Store{Ring: ring, Archive: cfg.Archive.Dir}
	defer keep(cfg, ring, boot, &store)() // ends when everything that has arrived is in the ring
	s, err := query.Listen(cfg.Socket, store, cfg.Log)
	if err != nil {
		return err
	}
	wg.Go(func() { s.Run(ctx) })
	wg.Go(func() {
		failed := func(err error) { cfg.Log.Warn("log chunk stays as it is", "error", err) }
		ring.Pack(ctx, failed, func(worked bool) {
			if worked {
				debug.FreeOSMemory() // packing takes a megabyte
			}
		})
	})
	if cfg.Ready != nil {
		cfg.Ready()
	}
	return c.run(ctx)
}

// keep starts the archive, if there is a place for it. The returned function makes the archive flush, and waits for its
// end.
func keep(cfg Config, to *ring.Ring, boot [16]byte, store *query.Store) (stop func()) {
	if cfg.Archive.Place == nil {
		return func() {}
	}
	a := archive.New(archive.Config{
		Ring: to, Boot: boot, Place: cfg.Archive.Place, Bytes: cfg.Archive.Bytes, Interval: cfg.Archive.Interval,
		Wanted: cfg.Archive.Wanted, Changed: cfg.Archive.Changed, Log: cfg.Log, Rested: debug.FreeOSMemory,
	})
	store.Flush = a.Flush
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // stop waits for it
		defer close(done)
		a.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// newCollector opens everything that the collector reads. The caller closes it.
func newCollector(cfg Config, to *ring.Ring, wg *sync.WaitGroup) (c *collector, err error) {
	c = &collector{
		dir: cfg.Dir, spool: filepath.Join(cfg.RingDir, "spool"), ring: to, log: cfg.Log, clock: now,
		limit: limit{rate: float64(cfg.Rate), burst: float64(cfg.Burst)}, reports: map[*tally]time.Duration{},
		inotify: -1, pipes: map[int32]*input{}, byName: map[pipe.Source]*input{}, timers: map[*input]time.Duration{},
		alive: cfg.Alive, dirty: map[*input]bool{}, buf: make([]byte, spool.TurnBytes),
		firstOutput: func(kind string, at time.Duration) {
			if cfg.OnFirstOutput != nil {
				wg.Go(func() { cfg.OnFirstOutput(kind, at) })
			}
		},
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	for _, dir := range []string{c.dir, c.spool} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open log: %w", err)
		}
	}
	if c.poll, err = newPoller(); err != nil {
		return c, err
	}
	if err := c.watchPipes(); err != nil && !dirwatch.Scarce(err) {
		return c, err
	} else if err != nil {
		c.log.Warn("inotify is used up, looking for log pipes every second", "path", c.dir, "error", err)
		c.lookAgain()
	}
	c.openKernel(cfg.Kmsg)
	c.openSyslog(cfg)
	return c, c.start()
}

// openKernel opens the kernel's log; without it the other sources still work.
func (c *collector) openKernel(path string) {
	if path == NoKmsg {
		return
	}
	k, err := openKernelLog(path, c.ring)
	if err == nil {
		err = c.poll.watch(k.fd, true)
		c.kernel = k
	}
	if err != nil {
		c.log.Error("kernel log lost", "error", err)
	}
}

// openSyslog uses the kept socket, in which messages wait while logd does not run, or creates one. Without it the other
// sources still work.
func (c *collector) openSyslog(cfg Config) {
	if cfg.Kept == 0 && cfg.Syslog == NoSyslog {
		return
	}
	socket, err := openSocket(cfg)
	if err == nil {
		c.syslog = newSyslogInput(socket, c.limit, c.ring)
		err = c.poll.watch(socket.FD(), true)
		for _, t := range c.syslog.tallies {
			if t.dropped > 0 {
				c.reports[t] = 0 // an earlier life may not have reported them
			}
		}
	}
	if err != nil {
		c.log.Error("syslog lost", "error", err)
	}
}

func openSocket(cfg Config) (*syslog.Socket, error) {
	if cfg.Kept != 0 {
		return syslog.Adopt(cfg.Kept)
	}
	socket, err := syslog.Listen(cfg.Syslog)
	if err == nil && cfg.Keep != nil {
		if err := cfg.Keep(socket.FD()); err != nil {
			cfg.Log.Warn("syslog is lost while there is no logd", "error", err)
		}
	}
	return socket, err
}

// close closes all descriptors; the spools stay.
func (c *collector) close() {
	for _, p := range c.byName {
		if p.fd >= 0 {
			unix.Close(p.fd)
		}
		p.Spool.Close()
	}
	if c.kernel != nil {
		c.kernel.close()
	}
	if c.syslog != nil {
		_ = c.syslog.socket.Close() // only read from
	}
	if c.inotify >= 0 {
		c.inotify.Close()
	}
	if c.poll != nil {
		c.poll.close()
	}
}

func now() (time.Time, time.Duration) { return time.Now(), boottime.Now() }

func bootID() (id [16]byte, err error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id, fmt.Errorf("read boot id: %w", err)
	}
	text := strings.ReplaceAll(strings.TrimSpace(string(b)), "-", "")
	if n, err := hex.Decode(id[:], []byte(text)); err != nil || n != len(id) {
		return id, fmt.Errorf("read boot id: %q is none", text)
	}
	return id, nil
}
