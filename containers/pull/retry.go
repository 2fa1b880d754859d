package pull

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"resinos/containers/fetcher"
)

// Cause is what has to change before a pull can succeed.
type Cause string

// The causes: those of fetchers, and these.
const (
	Again   Cause = "again"    // the fetched bytes were wrong; the layer is fetched from the beginning
	Lied    Cause = "lied"     // the registry sends other bytes than it promised
	Unfit   Cause = "unfit"    // the image is not for this device, or exceeds a limit
	NoSpace Cause = "no-space" // the disk is full, or would be
	Engine  Cause = "engine"   // the engine does not answer, or answers with a fault
)

// CauseOf returns the cause of a failed attempt.
func CauseOf(err error) Cause {
	var f fault
	var failure fetcher.Failure
	switch {
	case errors.As(err, &f):
		return f.Cause
	case errors.As(err, &failure):
		return Cause(failure.Cause)
	case strings.Contains(err.Error(), unix.ENOSPC.Error()), strings.Contains(err.Error(), unix.EDQUOT.Error()):
		return NoSpace // the engine's error text
	case errors.Is(err, io.ErrUnexpectedEOF):
		return Cause(fetcher.Offline) // the registry sent fewer bytes than it promised, but no wrong ones
	case errdefs.IsUnavailable(err), errors.Is(err, errNoEngine):
		return Engine
	}
	return Cause(fetcher.Broken)
}

// patience is the delay after a failure: first, doubled each time, up to last.
type patience struct{ first, last time.Duration }

// patiences are the delays by cause. A network returns by itself, and trying costs nothing; a registry that has
// answered is asked rarely; wrong bytes, which cost traffic, are fetched a few times a day.
var patiences = map[Cause]patience{
	Again:                    {100 * time.Millisecond, time.Minute},
	Engine:                   {time.Second, 10 * time.Second},
	Cause(fetcher.Offline):   {time.Second, time.Minute},
	Cause(fetcher.Clock):     {time.Second, time.Minute},
	Cause(fetcher.NoRange):   {100 * time.Millisecond, time.Minute},
	Cause(fetcher.Untrusted): {10 * time.Second, 10 * time.Minute},
	Cause(fetcher.Denied):    {10 * time.Second, 10 * time.Minute},
	Cause(fetcher.Settings):  {10 * time.Second, 10 * time.Minute},
	Cause(fetcher.Broken):    {10 * time.Second, 10 * time.Minute},
	Unfit:                    {time.Minute, time.Hour},
	NoSpace:                  {time.Minute, 10 * time.Minute},
	Lied:                     {time.Minute, 6 * time.Hour},
}

// delay returns how long to wait after a number of failures in a row. spread, from 0 to 1, adds up to a quarter, so
// that the devices of a fleet do not return to a registry at the same moment.
func delay(c Cause, failures int, spread float64) time.Duration {
	p := patiences[c]
	d := p.last
	if n := max(failures-1, 0); n < 20 && p.first<<n < p.last {
		d = p.first << n
	}
	return d + time.Duration(float64(d)*spread/4)
}

// await waits for d, or until the clock is synchronised if the clock was the cause. right is whether it was before the
// attempt that failed.
func (p *Pulls) await(ctx context.Context, c Cause, d time.Duration, right bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	var look <-chan time.Time
	if c == Cause(fetcher.Clock) && !right {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		look = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-look:
			if p.c.ClockIsRight() {
				return
			}
		}
	}
}
