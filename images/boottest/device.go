package boottest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"resinos/images/qemu"
)

// A Device is one place in the lab: a tap link, an address, and the guest that runs there.
type Device struct {
	lab    *Lab
	number int
	tap    string

	options qemu.Options // of the guest
	guest   *qemu.Guest  // nil while switched off
	mu      sync.Mutex   // guards shell
	shell   *qemu.Shell  // nil until the first login, and after the connection broke
}

// BootTimeout limits a boot, from QEMU's start to a login. Two guests share two processors without KVM; in CI, which is
// slow, it is three times as long (patient).
const BootTimeout = 3 * time.Minute

// Device returns the place with this number in the lab.
func (l *Lab) Device(number int) (*Device, error) {
	if number < 0 || number >= mostDevices {
		return nil, fmt.Errorf("create device %d: the lab has at most %d", number, mostDevices)
	}
	tap, err := l.Tap(number)
	if err != nil {
		return nil, err
	}
	return &Device{lab: l, number: number, tap: tap}, nil
}

// Start switches the device on; it sets Network of the options. The device must be off.
func (d *Device) Start(ctx context.Context, o qemu.Options) error {
	if d.Running() {
		return errors.New("start device: it runs already")
	}
	o.Network = qemu.Network{Tap: d.tap, MAC: hardwareAddress(d.number)}
	guest, err := qemu.Start(ctx, o)
	if err != nil {
		return err
	}
	d.options, d.guest = o, guest
	return nil
}

// Running reports whether the guest is running.
func (d *Device) Running() bool {
	if d.guest == nil {
		return false
	}
	select {
	case <-d.guest.Done():
		return false
	default:
		return true
	}
}

// Guest returns what runs, or ran last.
func (d *Device) Guest() *qemu.Guest { return d.guest }

// Login returns a connection to the guest, a new one if there is none. The error quotes the console.
func (d *Device) Login(ctx context.Context) (*qemu.Shell, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shell != nil {
		return d.shell, nil
	}
	if d.guest == nil {
		return nil, errors.New("log in: the device is off")
	}
	limit := patient(BootTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no login within %v", limit))
	defer cancel()
	go func() { // ends with ctx, at the latest when this function returns
		select {
		case <-d.guest.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	shell, err := qemu.Dial(ctx, fmt.Sprintf("%s:%d", Address(d.number), qemu.GuestSSH))
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, d.guest.LastLines())
	}
	d.shell = shell
	return shell, nil
}

// Logout closes the connection; the next Run opens a new one.
func (d *Device) Logout() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shell != nil {
		_ = d.shell.Close() // it may be broken already
		d.shell = nil
	}
}

// Run runs a command line in the guest and returns its exit status.
func (d *Device) Run(ctx context.Context, command string, stdout, stderr io.Writer) (int, error) {
	shell, err := d.Login(ctx)
	if err != nil {
		return 0, err
	}
	code, err := shell.Run(ctx, command, stdout, stderr)
	if err != nil {
		d.Logout()
	}
	return code, err
}

// Output runs a command that must succeed and returns what it printed, without space at the ends.
func (d *Device) Output(ctx context.Context, command string) (string, error) {
	var out, talk bytes.Buffer
	code, err := d.Run(ctx, command, &out, &talk)
	if err != nil {
		return "", err
	}
	if code != 0 {
		return "", fmt.Errorf("run %q: exit status %d: %s", command, code, strings.TrimSpace(talk.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// Each is for a patient.
const (
	askTimeout     = 20 * time.Second // to ask for a reboot: the device may close the connection without a status
	attemptTimeout = 10 * time.Second // to log in after a reboot, before it is tried again
	offTimeout     = time.Minute      // to end
)

const bootID = "cat /proc/sys/kernel/random/boot_id"

// Reboot reboots the device with a command and returns when the next boot accepts a login.
func (d *Device) Reboot(ctx context.Context, command string) error {
	before, err := d.Output(ctx, bootID)
	if err != nil {
		return err
	}
	asked, cancel := context.WithTimeout(ctx, patient(askTimeout))
	_, _ = d.Run(asked, command, io.Discard, io.Discard)
	cancel()
	return d.AwaitBoot(ctx, before)
}

// AwaitBoot returns when a boot other than the one with the id before accepts a login.
func (d *Device) AwaitBoot(ctx context.Context, before string) error {
	limit := patient(BootTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no second boot within %v", limit))
	defer cancel()
	for {
		d.Logout()
		attempt, stop := context.WithTimeout(ctx, patient(attemptTimeout))
		now, err := d.Output(attempt, bootID)
		stop()
		switch {
		case err == nil && now != before:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("reboot: %w\n%s", context.Cause(ctx), d.guest.LastLines())
		case !d.Running():
			return fmt.Errorf("reboot: the device switched itself off: %w", d.guest.Wait(ctx))
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// PowerOff powers the device off and returns when it is off.
func (d *Device) PowerOff(ctx context.Context) error {
	asked, cancel := context.WithTimeout(ctx, patient(askTimeout))
	_, _ = d.Run(asked, "osctl poweroff", io.Discard, io.Discard)
	cancel()
	return d.AwaitOff(ctx)
}

// AwaitOff returns when the guest has ended, with an error if it did not end by itself.
func (d *Device) AwaitOff(ctx context.Context) error {
	d.Logout()
	limit := patient(offTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it still runs after %v", limit))
	defer cancel()
	if err := d.guest.Wait(ctx); err != nil {
		return fmt.Errorf("power off: %w\n%s", err, d.guest.LastLines())
	}
	return nil
}

// explain returns the state of a running device's services and the end of its log, for the report of a story that
// failed.
func (d *Device) explain(ctx context.Context) string {
	if !d.Running() {
		return "the device is off"
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var said bytes.Buffer // one stream for both: two would be copied into it at once
	if _, err := d.Run(ctx, "exec 2>&1; osctl status; osctl logs --lines 25", &said, io.Discard); err != nil {
		fmt.Fprintf(&said, "ask the device: %v", err)
	}
	return said.String()
}

// Kill cuts the power of the device if it is on.
func (d *Device) Kill() {
	if d.guest != nil {
		d.guest.Kill()
	}
	d.Logout()
}
