package logd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
	"resinos/services/log/entry"
	"resinos/services/log/pipe"
	"resinos/services/log/ring"
	"resinos/services/log/spool"
	"resinos/services/notify"
)

// partialWait is how long a line may lack its end before it becomes an entry without it. A variable for tests, whose
// producers may stand still for longer in the middle of a line.
var partialWait = 2 * time.Second

const (
	// pipeBytes is the capacity that package pipe gives a pipe.
	pipeBytes = 256 << 10
	// retryWait is the pause after the file system was found full.
	retryWait = time.Second
)

// A collector moves everything that producers write into the ring. All its state belongs to the goroutine of run.
type collector struct {
	dir   string // of the pipes
	spool string // directory of the spools
	ring  *ring.Ring
	log   *slog.Logger
	clock ring.Clock
	limit limit // of each pipe

	poll    *poller
	inotify dirwatch.Inotify // -1: used up
	kernel  *kernelLog       // nil: not read
	syslog  *syslogInput     // nil: not read
	pipes   map[int32]*input
	byName  map[pipe.Source]*input
	timers  map[*input]time.Duration // boottime of the pipe's next turn if nothing arrives before
	reports map[*tally]time.Duration // boottime at which dropped lines are reported
	resume  time.Duration            // boottime at which syslog is read again; 0: it is not paused
	// boottime of the next look into the pipes' directory; 0: inotify reports its changes
	look    time.Duration
	dirty   map[*input]bool // had a turn since the last commit
	buf     []byte
	full    bool // the last write found the file system full, and that was logged
	stalled int  // pipes that wait for space in the file system

	alive       *notify.Pulse
	firstOutput func(kind string, at time.Duration)
	spoken      bool // firstOutput was called
}

// An input is one source: the pipe that its producer writes into, and the spool.
type input struct {
	*spool.Spool
	*tally
	fd       int  // -1: only the spool is left
	stalled  bool // the file system is full
	paused   bool // over its limit
	unpolled bool // not polled, because it is stalled or paused
}

// start opens the existing sources: the kernel's log, all pipes, and spools whose pipes are gone.
func (c *collector) start() error {
	c.first() // an earlier life may have had no time to report it
	if err := c.rescan(); err != nil {
		return err
	}
	left, err := os.ReadDir(c.spool)
	if err != nil {
		return fmt.Errorf("open log spools: %w", err)
	}
	for _, file := range left {
		s, err := pipe.ParseName(file.Name())
		if err != nil || c.byName[s] != nil {
			continue
		}
		sp, err := spool.Open(c.spool, s, c.ring.Mark(s).Cursor)
		if err != nil {
			return err
		}
		p := &input{Spool: sp, tally: newTally(s, c.ring), fd: -1}
		c.byName[s] = p
		c.leave(p)
	}
	for _, s := range c.ring.Sources() {
		if s.Kind != entry.Kernel && s.Kind != entry.Syslog && c.byName[s] == nil {
			c.ring.Forget(s)
		}
	}
	return nil
}

// run serves until ctx is done. It then reads what has arrived until then, and returns nil.
func (c *collector) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, c.poll.interrupt)()
	for {
		c.settle(ctx)
		c.alive.Beat()
		events, err := c.poll.wait(ctx, c.untilTimer())
		if ctx.Err() != nil {
			c.last()
			return c.ring.Commit()
		}
		if err != nil {
			return err
		}
		for _, event := range events {
			c.serve(event.Fd)
		}
		c.expire()
	}
}

// last reads what has arrived until now, up to a limit. The device may be going down, and what then remains in pipes is
// lost. Lines without an end stay in their spools for the next life.
func (c *collector) last() {
	for _, p := range c.byName {
		for range 1 + pipeBytes/spool.TurnBytes {
			if c.turn(p, false) < spool.TurnBytes {
				break
			}
		}
	}
	if c.syslog != nil {
		c.syslogTurn()
	}
	if c.kernel != nil {
		c.serve(int32(c.kernel.fd))
	}
}

// serve reads from one readable descriptor, up to the limit of a turn.
func (c *collector) serve(fd int32) {
	switch p := c.pipes[fd]; {
	case p != nil:
		c.turn(p, false)
	case dirwatch.Inotify(fd) == c.inotify:
		c.dirTurn()
	case c.kernel != nil && int(fd) == c.kernel.fd:
		c.kernelTurn()
	case c.syslog != nil && int(fd) == c.syslog.socket.FD():
		c.syslogTurn()
	}
}

// kernelTurn reads from the kernel's log. settle tries again to write what the ring had no space for.
func (c *collector) kernelTurn() {
	err := c.kernel.turn(c.ring, c.clock)
	switch {
	case err == nil:
	case c.kernel.held > 0:
		c.trouble(err)
	default:
		c.log.Error("kernel log lost", "error", err)
		c.poll.forget(c.kernel.fd)
		c.kernel.close()
		c.kernel = nil
	}
}

// syslogTurn reads from syslog, and pauses it while a source floods it.
func (c *collector) syslogTurn() {
	wall, boottime := c.clock()
	over, err := c.syslog.turn(c.ring, wall, boottime)
	for t := range over {
		c.tellLater(t, boottime)
	}
	if unpolled := c.resume > 0; unpolled != (len(over) > 0) {
		err = errors.Join(err, c.poll.watch(c.syslog.socket.FD(), unpolled))
	}
	if c.resume = 0; len(over) > 0 {
		c.resume = boottime + floodPause
	}
	if err != nil {
		c.log.Error("syslog lost", "error", err)
		c.closeSyslog()
	}
}

func (c *collector) closeSyslog() {
	c.poll.forget(c.syslog.socket.FD())
	_ = c.syslog.socket.Close() // only read from
	c.syslog, c.resume = nil, 0
}

// turn moves a bounded part of a pipe to its spool, and the lines of the spool to the ring. With flush it reads nothing
// from the pipe, and moves a line without an end too.
func (c *collector) turn(p *input, flush bool) (moved int) {
	wall, boottime := c.clock()
	delete(c.timers, p)
	c.dirty[p] = true
	var err error
	if p.fd >= 0 && !flush {
		moved, err = p.Fill(p.fd)
		if errors.Is(err, unix.ENOSPC) && c.ring.Shrink() {
			moved, err = p.Fill(p.fd)
		}
	}
	if moved > 0 && p.Spool.Source.Kind == pipe.Container {
		c.report(boottime)
	}
	if err != nil {
		c.trouble(err)
		c.timers[p] = boottime + retryWait
	}
	c.setStalled(p, err != nil)
	in := &intake{c: c, p: p, now: boottime, e: entry.Entry{
		Kind: p.Spool.Source.Kind, Name: p.Spool.Source.Name, Stream: p.Spool.Source.Stream, Time: wall,
		Boottime: boottime,
	}}
	err = p.Lines(c.buf, flush, in)
	if err == nil && p.lag {
		err = p.mark(c.ring, p.Cursor)
	}
	p.paused = in.dropped && p.fd >= 0
	c.listen(p)
	switch {
	case err != nil:
		c.trouble(err)
		c.timers[p] = boottime + retryWait
	case p.stalled:
	case p.paused:
		c.timers[p] = boottime + floodPause
	case p.Cursor < p.End:
		c.timers[p] = boottime + partialWait
	}
	return moved
}

// setStalled records whether the bytes of a pipe fit into the file system. While they do not, its producer waits.
func (c *collector) setStalled(p *input, stalled bool) {
	if stalled == p.stalled {
		return
	}
	if p.stalled = stalled; stalled {
		c.stalled++
	} else {
		c.stalled--
	}
}

// listen begins or ends polling a pipe. A pipe that is not polled has a timer.
func (c *collector) listen(p *input) {
	if unpolled := p.stalled || p.paused; unpolled != p.unpolled && p.fd >= 0 {
		p.unpolled = unpolled
		if err := c.poll.watch(p.fd, !unpolled); err != nil {
			c.trouble(err)
		}
	}
}

// settle commits what the turns have appended, and frees the memory of the spools. While the ring cannot be written,
// everything waits: new output stays in the pipes.
func (c *collector) settle(ctx context.Context) {
	for {
		err := c.ring.Commit()
		if err == nil && (c.kernel == nil || c.kernel.held == 0) {
			break
		}
		if err == nil {
			c.kernelTurn()
			continue
		}
		c.trouble(err)
		c.alive.Beat() // a full file system is no reason to be killed
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryWait):
		}
	}
	for p := range c.dirty {
		if err := p.Punch(); err != nil {
			c.trouble(err)
		}
	}
	clear(c.dirty)
	if c.full && c.stalled == 0 {
		c.full = false
		c.log.Info("log is being written again")
	}
}

// trouble is reported once, and again only after a success: the report goes through a pipe that logd itself reads.
func (c *collector) trouble(err error) {
	if !c.full {
		c.log.Error("log cannot be written, producers wait", "error", err)
	}
	c.full = true
}

// expire serves the pipes whose timer is due: a line without an end becomes an entry, a stalled or paused pipe is read
// again. It also reports dropped lines.
func (c *collector) expire() {
	if len(c.timers) == 0 && len(c.reports) == 0 && c.resume == 0 && c.look == 0 {
		return
	}
	_, now := c.clock()
	if c.look > 0 && c.look <= now {
		c.lookForPipes()
	}
	for p, at := range c.timers {
		if at > now {
			continue
		}
		flush := !p.unpolled
		for range 1 + pipeBytes/spool.TurnBytes { // all that can have arrived in a pause
			if c.turn(p, flush) < spool.TurnBytes || !p.paused {
				break
			}
		}
	}
	for t, at := range c.reports {
		if at <= now {
			c.tell(t)
		}
	}
	if c.resume > 0 && c.resume <= now {
		c.syslogTurn()
	}
}

func (c *collector) untilTimer() time.Duration {
	next := time.Duration(math.MaxInt64)
	for _, at := range c.timers {
		next = min(next, at)
	}
	for _, at := range c.reports {
		next = min(next, at)
	}
	if c.resume > 0 {
		next = min(next, c.resume)
	}
	if c.look > 0 {
		next = min(next, c.look)
	}
	left := c.alive.Left()
	if next == math.MaxInt64 {
		if left == math.MaxInt64 {
			return -1
		}
		return left
	}
	_, now := c.clock()
	return min(max(next-now, 0), partialWait, left)
}

// adopt opens a pipe and its spool. It never creates the pipe, so that a late event does not bring a deleted one back.
func (c *collector) adopt(s pipe.Source) (*input, error) {
	path := pipe.Path(c.dir, s)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open log pipe", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "open log pipe", Path: path, Err: errors.New("not a named pipe")}
	}
	sp, err := spool.Open(c.spool, s, c.ring.Mark(s).Cursor)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	p := &input{Spool: sp, tally: newTally(s, c.ring), fd: fd}
	if p.dropped > 0 {
		c.reports[p.tally] = 0 // an earlier life may not have reported them
	}
	if err := c.poll.watch(fd, true); err != nil {
		unix.Close(fd)
		sp.Close()
		return nil, err
	}
	c.pipes[int32(fd)], c.byName[s] = p, p
	return p, nil
}

// leave reads what a deleted pipe still holds, and closes it. What its producer writes later is lost: a pipe is deleted
// only after its producer has ended.
func (c *collector) leave(p *input) {
	for range 1 + (1<<20)/spool.TurnBytes { // no pipe is larger
		if c.turn(p, false) == 0 {
			break
		}
	}
	c.turn(p, true)
	c.tell(p.tally)
	c.setStalled(p, false)
	delete(c.timers, p)
	delete(c.reports, p.tally)
	delete(c.dirty, p)
	delete(c.byName, p.Spool.Source)
	if p.fd >= 0 {
		c.poll.forget(p.fd)
		delete(c.pipes, int32(p.fd))
		unix.Close(p.fd)
	}
	if err := c.ring.Commit(); err != nil || p.Cursor < p.End {
		p.Close() // the spool stays for the next life
		return
	}
	p.Remove()
	c.ring.Forget(p.Spool.Source)
}

// report calls firstOutput, once.
func (c *collector) report(at time.Duration) {
	if !c.spoken {
		c.spoken = true
		c.firstOutput(pipe.Container, at)
	}
}

// first reports the oldest container entry of the ring, if there is one.
func (c *collector) first() {
	if c.spoken {
		return
	}
	rd := c.ring.NewReader(0)
	defer rd.Close()
	rd.Keep = func(e *entry.Entry) bool { return e.Kind == pipe.Container }
	var e entry.Entry
	if found, err := rd.Next(&e); found && err == nil {
		c.report(e.Boottime)
	}
}
