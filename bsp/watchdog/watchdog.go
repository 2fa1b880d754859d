// Package watchdog owns the hardware watchdog: the device that resets the board unless it is fed in time. It is fed
// only when every part of the process that it guards has moved since it was fed last, never by the clock alone. It
// stops a watchdog that runs only when the board is halted on purpose. Read Decide and Keeper first.
package watchdog

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Path is the first watchdog of the board.
const Path = "/dev/watchdog"

// Timer is an open watchdog. It runs from Open on, and continues when the process ends.
type Timer struct {
	file    *os.File
	timeout time.Duration
}

// Open starts the watchdog. The kernel's driver may round the timeout; Timeout says what it made of it. The error wraps
// fs.ErrNotExist when the board has none.
func Open(path string, timeout time.Duration) (*Timer, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open watchdog: %w", err)
	}
	d := Take(f)
	// A driver that cannot set it keeps its own, and that is what counts.
	if err := d.SetTimeout(timeout); err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
		return nil, errors.Join(err, f.Close())
	}
	return d, nil
}

// Take goes on with a watchdog that an earlier life of the process opened.
func Take(f *os.File) *Timer {
	d := &Timer{file: f, timeout: fallback}
	if seconds, err := d.get(unix.WDIOC_GETTIMEOUT); err == nil && seconds > 0 {
		d.timeout = time.Duration(seconds) * time.Second
	}
	return d
}

// fallback is taken for the timeout of a driver that does not tell it: shorter than that of any known one.
const fallback = 8 * time.Second

// File is the open device, to be kept open by the next life of the process.
func (d *Timer) File() *os.File { return d.file }

// Timeout is how long the watchdog goes unfed before it resets the board.
func (d *Timer) Timeout() time.Duration { return d.timeout }

// SetTimeout changes the timeout and feeds the watchdog.
func (d *Timer) SetTimeout(timeout time.Duration) error {
	err := d.control(func(fd int) error {
		return unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, int(timeout/time.Second))
	})
	if err != nil {
		return fmt.Errorf("set timeout of watchdog: %w", err)
	}
	if seconds, err := d.get(unix.WDIOC_GETTIMEOUT); err == nil && seconds > 0 {
		timeout = time.Duration(seconds) * time.Second
	}
	d.timeout = timeout
	return nil
}

// Feed starts the timeout again.
func (d *Timer) Feed() error {
	err := d.control(func(fd int) error { return unix.IoctlWatchdogKeepalive(fd) })
	if err != nil {
		return fmt.Errorf("feed watchdog: %w", err)
	}
	return nil
}

// Fired tells whether the board's last reset was this watchdog's doing, as far as the driver knows.
func (d *Timer) Fired() bool {
	status, err := d.get(unix.WDIOC_GETBOOTSTATUS)
	return err == nil && status&unix.WDIOF_CARDRESET != 0
}

// Release stops the watchdog and closes it: for a board that is halted on purpose and shall stay so. Where the driver
// is built not to stop, it goes on.
func (d *Timer) Release() error {
	_, err := d.file.Write([]byte("V")) // the magic close of watchdog-api.rst
	return errors.Join(err, d.file.Close())
}

func (d *Timer) get(request uint) (value int, err error) {
	err = d.control(func(fd int) (err error) {
		value, err = unix.IoctlGetInt(fd, request)
		return err
	})
	return value, err
}

func (d *Timer) control(do func(fd int) error) error {
	raw, err := d.file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = do(int(fd)) }); err != nil {
		return err
	}
	return inner
}
