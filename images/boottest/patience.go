package boottest

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"resinos/mounts/testenv"
)

// patient is a bound for what has to happen: where it does, nobody waits longer than it takes, and CI's machines are
// shared.
func patient(bound time.Duration) time.Duration {
	if testenv.CI() {
		return 3 * bound
	}
	return bound
}

// hostLimit is when the host gives up on something that has a span of the guest's time: long after that, and only
// because a guest that is dead or mute has no clock to ask.
func hostLimit(span time.Duration) time.Duration { return 2*patient(span) + patient(BootTimeout) }

// A deadline is a span of a guest's own time, which stands still while the guest does. The span goes on in the next
// boot. Unless it counts instructions, QEMU lets the guest's clock run with the host's, however little the guest gets
// done: so a span is for a patient.
type deadline struct {
	left  time.Duration
	last  time.Duration // the guest's uptime when passed was called last
	began bool
}

// passed takes the uptime at a look at the guest, and reports whether the span is over. The span begins with the first
// look; an uptime that is less than the last one is that of another boot.
func (d *deadline) passed(uptime time.Duration) bool {
	switch {
	case !d.began:
		d.began = true
	case uptime < d.last:
		d.left -= uptime
	default:
		d.left -= uptime - d.last
	}
	d.last = uptime
	return d.left <= 0
}

// tellUptime is put before a command line of the guest, so that cutUptime finds its clock before what it prints.
const tellUptime = "cat /proc/uptime; "

// cutUptime splits the output of a command line that begins with tellUptime: see proc_uptime(5).
func cutUptime(said []byte) (uptime time.Duration, out []byte, err error) {
	line, out, _ := bytes.Cut(said, []byte("\n"))
	word, _, _ := bytes.Cut(line, []byte(" "))
	seconds, err := strconv.ParseFloat(string(word), 64)
	if err != nil {
		return 0, said, fmt.Errorf("read uptime of the guest: %w", err)
	}
	return time.Duration(seconds * float64(time.Second)), out, nil
}
