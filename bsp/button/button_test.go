package button

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

// Bitmaps of capabilities/key on 64 bits. The first two were read on the board qemu-x86_64, the others are made up.
const (
	acpiButton = "8000 10000000000000 0\n"
	keyboard   = "402000002 3803078f800d001 feffffdfffefffff fffffffffffffffe\n" // has a power key
	lowWord    = "10000000000000 0\n"                                            // nothing above the power key
	sleepKey   = "4000 0 0\n"
	mouse      = "1f0000 0 0 0 0\n"
	noKeys     = "0\n"
)

func TestHolds(t *testing.T) {
	if wordBits != 64 {
		testenv.Lacking(t, "words of 64 bits, of which these bitmaps are")
	}
	for text, want := range map[string]bool{
		acpiButton: true, keyboard: true, lowWord: true, sleepKey: false, mouse: false, noKeys: false,
		"ffffffffffffffff": false, "10000000000000": false, "10000000000000 0 0": false,
		"ffefffffffffffff ffffffffffffffff": false,
	} {
		if got, err := holds(text, keyPower); err != nil || got != want {
			t.Errorf("holds(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "\n", "x", "0x1 0", "-1", "1ffffffffffffffff 0", "10000000000000 0 é"} {
		if got, err := holds(bad, keyPower); err == nil {
			t.Errorf("holds(%q) = %v, want an error", bad, got)
		}
	}
}

// event makes a struct input_event.
func event(kind, code uint16, value uint32) []byte {
	b := make([]byte, timeSize, eventSize)
	b[0], b[timeSize-1] = 0xff, 0xff // the time is passed over
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, code)
	return binary.NativeEndian.AppendUint32(b, value)
}

func events(all ...[]byte) (joined []byte) {
	for _, e := range all {
		joined = append(joined, e...)
	}
	return joined
}

var (
	press   = event(typeKey, keyPower, down)
	release = event(typeKey, keyPower, 0)
	syn     = event(typeSync, 0, 0)
)

func TestPresses(t *testing.T) {
	if eventSize != timeSize+8 || strconv.IntSize == 64 && eventSize != 24 {
		t.Errorf("an event has %d bytes", eventSize)
	}
	for _, c := range []struct {
		name string
		in   []byte
		want int
	}{
		{"nothing", nil, 0},
		{"press", events(press, syn), 1},
		{"twice", events(press, syn, release, syn, press, syn), 2},
		{"release", events(release, syn), 0},
		{"held", events(event(typeKey, keyPower, 2), syn), 0},
		{"another key", events(event(typeKey, 30, down), syn), 0},
		{"another type", events(event(4, keyPower, down), syn), 0},
		{"cut", press[:eventSize-1], 0},
		{"cut after one", events(press, press[:timeSize]), 1},
	} {
		if got := presses(c.in); got != c.want {
			t.Errorf("%s: presses = %d, want %d", c.name, got, c.want)
		}
	}
}

// fixture is a made-up /dev and /sys, whose input devices are FIFOs, and a Run in them.
type fixture struct {
	t        *testing.T
	dev, sys string
	pressed  chan struct{}
	ended    chan error
	stop     context.CancelFunc
	held     map[string]int
	kept     chan string // what was left, and "-NAME" for what was taken back
}

func newFixture(t *testing.T) *fixture {
	return &fixture{t: t, dev: t.TempDir(), sys: t.TempDir(), pressed: make(chan struct{}, 10),
		ended: make(chan error, 1),
		kept:  make(chan string, 100)}
}

func (h *fixture) run() {
	ctx, stop := context.WithCancel(h.t.Context())
	h.stop = stop
	go func() {
		h.ended <- Run(ctx, Config{
			DevRoot: h.dev, SysRoot: h.sys, Pressed: func() { h.pressed <- struct{}{} },
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Held: h.held,
			Keep: func(name string, _ int) { h.kept <- name }, Drop: func(name string) { h.kept <- "-" + name },
		})
	}()
	h.t.Cleanup(h.end)
}

func (h *fixture) end() {
	h.stop()
	if err := testenv.Receive(h.t, "the end of Run", h.ended); err != nil {
		h.t.Errorf("Run = %v, want nil after its context ended", err)
	}
}

// plug makes an input device, node last, as the kernel does, and returns what its keys are written to.
func (h *fixture) plug(name, bitmap string) *os.File {
	h.t.Helper()
	dir := filepath.Join(h.sys, "class/input", name, "device/capabilities")
	node, hidden := filepath.Join(h.dev, "input", name), filepath.Join(h.t.TempDir(), name)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "key"), []byte(bitmap), 0o644),
		os.MkdirAll(filepath.Dir(node), 0o755), unix.Mkfifo(hidden, 0o600)); err != nil {
		h.t.Fatal(err)
	}
	// A FIFO without a writer ends at once, and only one with a reader can be opened for writing.
	reader, err1 := os.OpenFile(hidden, os.O_RDWR|unix.O_NONBLOCK, 0)
	writer, err2 := os.OpenFile(hidden, os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err := errors.Join(err1, err2, reader.Close(), os.Link(hidden, node)); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = writer.Close() })
	return writer
}

// isRead tells whether somebody has the device open.
func isRead(device *os.File) bool {
	_, err := device.Write(events(release, syn))
	return err == nil
}

// press waits until somebody reads the device, then presses, and wants that it is told.
func (h *fixture) press(device *os.File) {
	h.t.Helper()
	testenv.WaitFor(h.t, "a reader of the device", func() bool { return isRead(device) })
	if _, err := device.Write(events(press, syn, release, syn)); err != nil {
		h.t.Fatal(err)
	}
	h.wantPress()
}

func (h *fixture) wantPress() {
	h.t.Helper()
	testenv.Receive(h.t, "a press", h.pressed)
}

func TestButtonThatWasThere(t *testing.T) {
	h := newFixture(t)
	lid, garbage := h.plug("event0", noKeys), h.plug("event1", "garbage")
	power := h.plug("event2", acpiButton)
	h.run()
	h.press(power)
	if isRead(lid) || isRead(garbage) {
		t.Error("a device without a power button is open")
	}
	h.press(power)
	if len(h.pressed) > 0 {
		t.Error("a release counts as a press")
	}
}

// TestHeld: a button that an earlier life has left is read, with what was pressed meanwhile, and not opened again: the
// press that ended the earlier life would count twice.
func TestHeld(t *testing.T) {
	h := newFixture(t)
	power := h.plug("event2", acpiButton)
	node := filepath.Join(h.dev, "input", "event2")
	fd, err := unix.Open(node, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := power.Write(events(press, syn)); err != nil {
		t.Fatal(err)
	}
	h.held = map[string]int{"event2": fd}
	h.run()
	h.wantPress()
	other := h.plug("event3", acpiButton)
	h.press(other)
	if name := testenv.Receive(t, "what is left for the next life", h.kept); name != "event3" {
		t.Errorf("%s is left, want only event3", name)
	}
	// It is unplugged: a FIFO without writers ends.
	if err := errors.Join(os.Remove(node), power.Close()); err != nil {
		t.Fatal(err)
	}
	if name := testenv.Receive(t, "what is taken back", h.kept); name != "-event2" {
		t.Errorf("%s, want -event2", name)
	}
}

// TestLastPress: a press that was read from the kernel while Run ended is passed on.
func TestLastPress(t *testing.T) {
	d := &daemon{dev: t.TempDir(), log: slog.New(slog.DiscardHandler), pressed: make(chan string, 1)}
	told := 0
	d.last(func() { told++ })
	d.press("event0")
	d.last(func() { told++ })
	if told != 1 {
		t.Errorf("told %d times, want once", told)
	}
}

// TestButtonThatComes begins without a dir of input devices, which comes, goes and comes again.
func TestButtonThatComes(t *testing.T) { buttonThatComes(t) }

// TestButtonWithoutInotify: with a container that has taken all instances, buttons are found all the same.
func TestButtonWithoutInotify(t *testing.T) {
	if limit := testenv.UserLimit(t, "max_inotify_instances"); limit != nil {
		limit(0)
		buttonThatComes(t)
	}
}

func buttonThatComes(t *testing.T) {
	h := newFixture(t)
	h.run()
	for i := range 3 {
		for _, name := range []string{fmt.Sprintf("event%d", i), fmt.Sprintf("event1%d", i)} {
			h.press(h.plug(name, acpiButton))
		}
		if err := os.RemoveAll(filepath.Join(h.dev, "input")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestForget: a node whose device was unplugged may be another device already; one that is faulty is not tried again.
func TestForget(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{{unix.ENODEV, true}, {io.EOF, false}, {unix.EIO, false}} {
		t.Run(c.err.Error(), func(t *testing.T) {
			h := newFixture(t)
			h.plug("event0", acpiButton)
			ctx, stop := context.WithCancel(t.Context())
			d := &daemon{dev: h.dev, sys: h.sys, log: slog.New(slog.DiscardHandler), open: map[string]*os.File{}}
			var err error
			if d.inputs, err = watch(h.dev, d.log); err != nil {
				t.Fatal(err)
			}
			defer d.readers.Wait()
			defer d.close()
			defer stop()
			if err := d.look(ctx); err != nil || len(d.open) != 1 {
				t.Fatalf("look = %v, %d are open, want 1", err, len(d.open))
			}
			before := d.open["event0"]
			if err := d.forget(ctx, end{"event0", c.err}); err != nil {
				t.Fatal(err)
			}
			if now := d.open["event0"]; now == before || (now != nil) != c.want {
				t.Errorf("after %v the device is open: %v, want %v", c.err, now != nil, c.want)
			}
		})
	}
}

func TestBounded(t *testing.T) {
	h := newFixture(t)
	var devices []*os.File
	for i := range mostDevices + 4 {
		devices = append(devices, h.plug(fmt.Sprintf("event%d", i), acpiButton))
	}
	h.run()
	h.press(devices[0]) // the first of all; it is told after all were looked at
	open := 0
	for _, device := range devices {
		if isRead(device) {
			open++
		}
	}
	if open != mostDevices {
		t.Errorf("%d devices are open, want %d", open, mostDevices)
	}
}

func TestNoPlaceToWatch(t *testing.T) {
	err := Run(t.Context(), Config{DevRoot: filepath.Join(t.TempDir(), "nowhere"), Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Run without /dev = %v, want that it does not exist", err)
	}
}

// FuzzHolds compares with arithmetic on the whole bitmap as one number.
func FuzzHolds(f *testing.F) {
	for _, text := range []string{acpiButton, keyboard, lowWord, sleepKey, mouse, noKeys, "", "zz", "1 2 3 4 5"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := holds(text, keyPower)
		if err != nil {
			return
		}
		whole := new(big.Int)
		for _, word := range strings.Fields(text) {
			n, _ := new(big.Int).SetString(word, 16)
			whole.Add(whole.Lsh(whole, wordBits), n)
		}
		if want := whole.Bit(keyPower) == 1; got != want {
			t.Errorf("holds(%q) = %v, want %v", text, got, want)
		}
	})
}

func FuzzPresses(f *testing.F) {
	f.Add(events(press, syn))
	f.Add(press[:5])
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := presses(b); n < 0 || n > len(b)/eventSize {
			t.Errorf("presses = %d in %d bytes", n, len(b))
		}
	})
}
