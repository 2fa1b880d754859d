package bootbench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"resinos/images/qemu"
)

// Bounds of one boot; nothing is measured by them.
const (
	bootTimeout = 10 * time.Minute
	settle      = 60 * time.Second // from the first output to "idle"
	// from dropping the caches to the reading; the container prints one every ten seconds
	dropped = 25 * time.Second
)

// The marks of a boot, in the words of PID 1; the peer says the same ones.
const (
	markRoot     = "root"
	markServices = "services"
	markEngine   = "engine"
	markLease    = "lease"
	markOutput   = "container_output"
	markUsed     = "used" // kB
)

// A sample is what one boot shows by each mark: seconds of the guest's clock since the kernel's start, or millions of
// instructions since the firmware started the kernel.
type sample map[string]float64

var (
	markLine   = regexp.MustCompile(`(?:resinos|bench): (root|services|engine|lease|container_output) ([0-9.]+)s$`)
	usedLine   = regexp.MustCompile(`bench: used ([0-9]+) kB`)
	kernelLine = regexp.MustCompile(`EFI stub: Loaded initrd|^Starting kernel `)
	prepared   = regexp.MustCompile(`^bench: prepared`)
	grown      = regexp.MustCompile(`service exited service=grow `)
)

// parseMark finds a mark in a line of the console.
func parseMark(line string) (mark string, seconds float64, found bool) {
	got := markLine.FindStringSubmatch(line)
	if got == nil {
		return "", 0, false
	}
	seconds, err := strconv.ParseFloat(got[2], 64)
	return got[1], seconds, err == nil
}

// A watcher splits the console into lines and sends them to a channel. It drops lines while the channel is full.
type watcher struct {
	partial []byte
	lines   chan string
}

func (w *watcher) Write(p []byte) (int, error) {
	w.partial = append(w.partial, p...)
	for {
		line, rest, found := bytes.Cut(w.partial, []byte("\n"))
		if !found {
			return len(p), nil
		}
		select {
		case w.lines <- strings.TrimRight(string(line), "\r"):
		default: // a console that says more than its watcher can take: the marks that are lost are missed at the end
		}
		w.partial = bytes.Clone(rest)
	}
}

// measure boots once, reads the marks, and the memory in use if that is wanted. What the guest writes is lost.
func measure(ctx context.Context, o qemu.Options, ours, memory bool) (sample, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, fmt.Errorf("not done after %v", bootTimeout))
	defer cancel()
	o.Snapshot = o.Image != ""
	guest, err := qemu.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	defer guest.Kill()
	w := &watcher{lines: make(chan string, 10000)}
	defer guest.Console().Copy(w)()
	got, err := readMarks(ctx, guest, w.lines, o.Shift != 0)
	if err == nil && memory {
		got[markUsed], err = readMemory(ctx, guest, ours)
	}
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, guest.LastLines())
	}
	return got, nil
}

// readMarks returns when the container has spoken and the link has its lease.
func readMarks(ctx context.Context, guest *qemu.Guest, lines <-chan string, count bool) (sample, error) {
	got := sample{}
	var base int64 // instructions of the firmware
	for got[markOutput] == 0 || got[markLease] == 0 {
		var line string
		select {
		case line = <-lines:
		case <-guest.Done():
			return nil, errors.New("the guest ended before its container spoke")
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for marks, so far %v: %w", got, context.Cause(ctx))
		}
		mark, value, found := parseMark(line)
		starts := count && kernelLine.MatchString(line)
		if count && (found || starts) {
			n, err := guest.QMP().Instructions(ctx)
			if err != nil {
				return nil, err
			}
			if starts {
				base = n
			}
			value = float64(n-base) / 1e6
		}
		if found && got[mark] == 0 {
			got[mark] = value
		}
	}
	return got, nil
}

// readMemory waits until the guest is at rest, makes it drop its caches, and returns the memory in use that the
// container reads after that, in kB. On our device a shell on the console drops them and ends before the next reading;
// the peer's script drops them itself. Nobody logs in.
func readMemory(ctx context.Context, guest *qemu.Guest, ours bool) (float64, error) {
	if err := pause(ctx, settle); err != nil {
		return 0, err
	}
	if !ours {
		mark := guest.Console().Mark()
		if _, err := guest.Console().Wait(ctx, mark, regexp.MustCompile(`^bench: dropped`)); err != nil {
			return 0, err
		}
	} else if err := guest.Console().Send("\necho 3 >/proc/sys/vm/drop_caches; exit\n"); err != nil {
		return 0, err
	}
	mark := guest.Console().Mark()
	if err := pause(ctx, dropped); err != nil {
		return 0, err
	}
	if ours { // the lines asked for are older than the question
		mark = guest.Console().Mark()
		if err := guest.Console().Send("\n\nosctl logs --lines 100 | grep used | tail -n 1\n"); err != nil {
			return 0, err
		}
	}
	line, err := guest.Console().Wait(ctx, mark, usedLine)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(usedLine.FindStringSubmatch(line)[1], 64)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// runOnce boots with what is written kept in the image, waits for a line, has the device powered off if it does not do
// so by itself, and returns when it is off.
func runOnce(ctx context.Context, o qemu.Options, until *regexp.Regexp, press bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, fmt.Errorf("not done after %v", bootTimeout))
	defer cancel()
	guest, err := qemu.Start(ctx, o)
	if err != nil {
		return err
	}
	defer guest.Kill()
	if _, err := guest.Console().Wait(ctx, 0, until); err != nil {
		return fmt.Errorf("%w\n%s", err, guest.LastLines())
	}
	if press {
		if err := guest.QMP().PowerDown(ctx); err != nil {
			return err
		}
	}
	return guest.Wait(ctx)
}
