package timed

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"resinos/net/clock"
	"resinos/services/boottime"
)

// A Clock can be read and corrected. Kernel is the real one; tests have their own.
type Clock interface {
	Read() clock.Reading // any number of goroutines may call it at once
	// Step sets the clock forward by a span, or back.
	Step(by time.Duration) error
	// Slew lets the clock run ppm parts per million faster than its oscillator, and removes the offset by at up to 500
	// ppm in addition. The rest of an earlier Slew is dropped.
	Slew(by time.Duration, ppm float64) error
	// Mark tells programs that ask the kernel that the clock is right to within bound, probably to within likely; a
	// bound of 0 means that this is not known.
	Mark(bound, likely time.Duration) error
	// PPM returns the value of the last Slew.
	PPM() float64
	// Sets delivers a value after somebody has stepped the clock.
	Sets() <-chan struct{}
}

// Kernel is the system's clock. It needs CAP_SYS_TIME to change it.
type Kernel struct {
	origin time.Time // raw time 0: any moment will do, and a recent one keeps numbers small
	watch  *os.File
	sets   chan struct{}
	done   chan struct{} // closed when the watcher has ended
}

// OpenKernel begins to watch the system's clock. The caller closes it.
func OpenKernel() (*Kernel, error) {
	k := &Kernel{sets: make(chan struct{}, 1), done: make(chan struct{})}
	k.origin = time.Unix(0, nanoseconds(unix.CLOCK_REALTIME)-nanoseconds(unix.CLOCK_MONOTONIC_RAW))
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch clock: %w", err)
	}
	k.watch = os.NewFile(uintptr(fd), "timerfd")
	if err := k.arm(); err != nil {
		return nil, errors.Join(err, k.watch.Close())
	}
	go k.see()
	return k, nil
}

// Close ends the watch.
func (k *Kernel) Close() {
	_ = k.watch.Close() // nothing was written
	<-k.done
}

// arm sets a timer for the end of time, which the kernel cancels when the clock is set (timerfd_create(2)).
func (k *Kernel) arm() error {
	raw, err := k.watch.SyscallConn()
	if err != nil {
		return err
	}
	// beyond savedtime.Horizon, and below the kernel's KTIME_SEC_MAX
	late := unix.ItimerSpec{Value: unix.Timespec{Sec: 1 << 33}}
	var fault error
	err = raw.Control(func(fd uintptr) {
		fault = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &late, nil)
	})
	if err = errors.Join(err, fault); err != nil {
		return fmt.Errorf("watch clock: %w", err)
	}
	return nil
}

func (k *Kernel) see() {
	defer close(k.done)
	var count [8]byte
	for {
		_, err := k.watch.Read(count[:])
		if err != nil && !errors.Is(err, unix.ECANCELED) {
			return // closed
		}
		select {
		case k.sets <- struct{}{}:
		default: // a value is waiting already
		}
		if k.arm() != nil {
			return // closed
		}
	}
}

// Sets implements Clock.
func (k *Kernel) Sets() <-chan struct{} { return k.sets }

// Read implements Clock. If the process is interrupted between reading two clocks, it reads them again.
func (k *Kernel) Read() clock.Reading {
	for tries := 0; ; tries++ {
		r := clock.Reading{
			Boot: boottime.Now(),
			Raw:  k.Raw(),
			Real: time.Unix(0, nanoseconds(unix.CLOCK_REALTIME)),
		}
		if boottime.Now()-r.Boot < readTime || tries == readTries {
			return r
		}
	}
}

const (
	readTime  = 50 * time.Microsecond
	readTries = 5
)

// Raw returns the time of a clock that is never set or slewed. It stops while a device is suspended, which ours never
// are.
func (k *Kernel) Raw() time.Time {
	return k.origin.Add(time.Duration(nanoseconds(unix.CLOCK_MONOTONIC_RAW)))
}

func nanoseconds(id int32) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		panic(err) // every kernel since 2.6.39 has these
	}
	return ts.Nano()
}

// The ranges of adjtimex(2).
const (
	ppmUnit = 1 << 16
	maxPPM  = 500
)

// Step implements Clock. The kernel adds to the clock's time at that moment, so no time is lost between reading and
// setting.
func (k *Kernel) Step(by time.Duration) error {
	t := unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO}
	// The fraction must not be negative (ntp_adjtime(3)).
	sec, nsec := by/time.Second, by%time.Second
	if nsec < 0 {
		sec, nsec = sec-1, nsec+time.Second
	}
	t.Time.Sec, t.Time.Usec = int64(sec), int64(nsec)
	if _, err := unix.Adjtimex(&t); err != nil {
		return fmt.Errorf("step clock by %v: %w", by, err)
	}
	return nil
}

// Slew implements Clock.
func (k *Kernel) Slew(by time.Duration, ppm float64) error {
	rate := unix.Timex{Modes: unix.ADJ_FREQUENCY, Freq: int64(min(max(ppm, -maxPPM), maxPPM) * ppmUnit)}
	if _, err := unix.Adjtimex(&rate); err != nil {
		return fmt.Errorf("set rate of clock to %.3f ppm: %w", ppm, err)
	}
	once := unix.Timex{Modes: unix.ADJ_OFFSET_SINGLESHOT, Offset: by.Microseconds()}
	if _, err := unix.Adjtimex(&once); err != nil {
		return fmt.Errorf("slew clock by %v: %w", by, err)
	}
	return nil
}

// Mark implements Clock. Without STA_UNSYNC the kernel also writes the time to the hardware clock, now and every eleven
// minutes (kernel/time/ntp.c), at the right fraction of a second and only if there is one; nobody else writes it. The
// kernel sets STA_UNSYNC itself when the bound, to which it adds 500 ppm, has grown to 16 s.
func (k *Kernel) Mark(bound, likely time.Duration) error {
	t := unix.Timex{Modes: unix.ADJ_STATUS, Status: unix.STA_UNSYNC}
	if bound > 0 {
		t = unix.Timex{
			Modes:    unix.ADJ_STATUS | unix.ADJ_MAXERROR | unix.ADJ_ESTERROR,
			Maxerror: max(bound.Microseconds(), 1), Esterror: max(likely.Microseconds(), 1),
		}
	}
	if _, err := unix.Adjtimex(&t); err != nil {
		return fmt.Errorf("mark clock: %w", err)
	}
	return nil
}

// PPM implements Clock.
func (k *Kernel) PPM() float64 {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return 0
	}
	return float64(t.Freq) / ppmUnit
}
