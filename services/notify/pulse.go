package notify

import (
	"math"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Pulse is the signs of life (WATCHDOG=1) of a service that is watched. It belongs to the service's main loop, which waits no longer
// than Left and then calls Beat: a loop that does not come round gives no sign. The nil Pulse is one of a service that nobody watches.
type Pulse struct {
	every time.Duration
	next  time.Time // when the next sign is due
}

const (
	// beats is how many signs a service gives in the time in which PID 1 wants one: two may be late.
	beats = 3
	// beatRetry is the pause after a sign that could not be sent.
	beatRetry = time.Second
)

// Watched returns the Pulse that who started us asks for (sd_watchdog_enabled(3)), nil if it asks for none. The first sign
// is not due at once: the time that PID 1 gives begins when the service is up, and a boot has better to do.
func Watched() *Pulse { return watched(os.Getenv, os.Getpid(), time.Now()) }

func watched(getenv func(string) string, pid int, now time.Time) *Pulse {
	us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || us <= 0 || us > math.MaxInt64/int64(time.Microsecond) {
		return nil
	}
	if of := getenv("WATCHDOG_PID"); of != "" && of != strconv.Itoa(pid) {
		return nil // it is meant for another process
	}
	every := time.Duration(us) * time.Microsecond / beats
	return &Pulse{every: every, next: now.Add(every)}
}

// Left is how long the main loop may wait, at most, before it calls Beat.
func (p *Pulse) Left() time.Duration {
	if p == nil {
		return math.MaxInt64
	}
	return max(time.Until(p.next), 0)
}

// Until is Left as an instant, the zero one for ever: a deadline of a file or a connection.
func (p *Pulse) Until() time.Time {
	if p == nil {
		return time.Time{}
	}
	return p.next
}

// Beat gives a sign of life if one is due. It never blocks: a sign that finds no room is given a little later.
func (p *Pulse) Beat() {
	if p == nil || time.Until(p.next) > 0 {
		return
	}
	p.next = time.Now().Add(p.every)
	if err := send("WATCHDOG=1", unix.MSG_DONTWAIT); err != nil {
		p.next = time.Now().Add(min(p.every, beatRetry)) // PID 1 tells what comes of it
	}
}
