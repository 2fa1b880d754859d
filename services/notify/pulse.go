package notify

import (
	"math"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Pulse sends the watchdog messages (WATCHDOG=1) of a service. It belongs to the service's main loop, which waits no
// longer than Left and then calls Beat: a loop that hangs sends no message. The nil Pulse is for a service without a
// watchdog.
type Pulse struct {
	every time.Duration
	next  time.Time // when the next message is due
	beat  func()    // called in place of a message; nil: a message is sent
}

const (
	// beats is the number of messages in the time in which PID 1 needs one: two may be late.
	beats = 3
	// beatRetry is the pause after a message that could not be sent.
	beatRetry = time.Second
)

// Watched returns the Pulse that the parent asks for (sd_watchdog_enabled(3)), or nil if it asks for none. The first
// message is not due at once: the watchdog's time begins when the service is up, and during a boot there is other work.
func Watched() *Pulse { return watched(os.Getenv, os.Getpid(), time.Now()) }

func watched(getenv func(string) string, pid int, now time.Time) *Pulse {
	us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || us <= 0 || us > math.MaxInt64/int64(time.Microsecond) {
		return nil
	}
	if of := getenv("WATCHDOG_PID"); of != "" && of != strconv.Itoa(pid) {
		return nil // it is for another process
	}
	every := time.Duration(us) * time.Microsecond / beats
	return &Pulse{every: every, next: now.Add(every)}
}

// Part returns the pulse of one of several main loops in a process: it calls beat at most once in every. The loop that
// sends the messages decides what follows.
func Part(every time.Duration, beat func()) *Pulse { return &Pulse{every: every, beat: beat} }

// Left returns the longest time that the main loop may wait before it calls Beat.
func (p *Pulse) Left() time.Duration {
	if p == nil {
		return math.MaxInt64
	}
	return max(time.Until(p.next), 0)
}

// Until is Left as a point in time, for the deadline of a file or a connection; zero: no limit.
func (p *Pulse) Until() time.Time {
	if p == nil {
		return time.Time{}
	}
	return p.next
}

// Beat sends a watchdog message if one is due. It never blocks: a message that does not fit into the socket is sent a
// little later.
func (p *Pulse) Beat() {
	if p == nil || time.Until(p.next) > 0 {
		return
	}
	p.next = time.Now().Add(p.every)
	if p.beat != nil {
		p.beat()
		return
	}
	if err := send("WATCHDOG=1", unix.MSG_DONTWAIT); err != nil {
		p.next = time.Now().Add(min(p.every, beatRetry)) // PID 1 reports the consequences
	}
}
