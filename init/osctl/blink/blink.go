// Package blink owns the command osctl blink, by which a person finds a device among others: a light of the device
// goes on and off. It never changes a light that another call is using. Read Show first.
package blink

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/bsp/hardware"
	"resinos/init/osctl/cli"
)

// period is the time in which the light goes on and off once: a person sees it, and knows that no disk does it.
const period = 500 * time.Millisecond

// most is the longest that a call may take: nobody is in front of the device for longer.
const most = 10 * time.Minute

// Show carries out the command.
func Show(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	dry := flags.Bool("n", false, "prints what it would do, and does nothing")
	length := flags.Duration("for", 15*time.Second, "blinks for this `TIME`")
	rest, err := cli.Parse(flags, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 || *length < period || *length > most {
		return cli.Misuse(fmt.Sprintf("blink takes no name, and a time from %v to %v", period, most),
			"try: osctl blink")
	}
	board, err := hardware.Read(filepath.Join(s.Root, hardware.File))
	if err != nil {
		return err
	}
	light, err := choose(s.Root, board.LED)
	if err != nil {
		return cli.Advise(err, "add led = \"NAME\" to [hardware] of the board file: a name in /sys/class/leds")
	}
	if _, err := fmt.Fprintf(s.Stdout, "blink %s for %v\n", light, *length); err != nil || *dry {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	return light.blink(ctx, *length)
}

// A light is an LED of sysfs, or the screen.
type light struct {
	name   string // for people
	path   string // of the directory of the LED, or of the terminal
	screen bool
}

func (l light) String() string { return l.name }

// keyboard are the ends of the names of a keyboard's LEDs, the first one first: nobody minds it.
var keyboard = [...]string{"::scrolllock", "::capslock", "::numlock"}

// choose returns the light of the board file; else one of a keyboard; else the screen.
func choose(root, board string) (light, error) {
	leds := filepath.Join(root, "sys/class/leds")
	if board != "" {
		if _, err := os.Stat(filepath.Join(leds, board, "brightness")); err == nil {
			return light{"the light " + board, filepath.Join(leds, board), false}, nil
		}
	}
	entries, err := os.ReadDir(leds)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return light{}, err
	}
	for _, end := range keyboard {
		at := slices.IndexFunc(entries, func(e os.DirEntry) bool { return strings.HasSuffix(e.Name(), end) })
		if at >= 0 {
			name := entries[at].Name()
			shown := "the light " + strings.TrimPrefix(end, "::") + " of the keyboard"
			return light{shown, filepath.Join(leds, name), false}, nil
		}
	}
	tty := filepath.Join(root, "dev/tty1")
	if _, err := os.Stat(tty); err != nil {
		return light{}, errors.New("this device has neither a light nor a screen")
	}
	return light{"the screen", tty, true}, nil
}

// blink switches the light until the time is over or ctx ends, and leaves it as it was.
func (l light) blink(ctx context.Context, length time.Duration) (err error) {
	held, err := hold(l)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	set, restore, err := l.prepare()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	end := time.NewTimer(length)
	defer end.Stop()
	tick := time.NewTicker(period / 2)
	defer tick.Stop()
	for on := true; ; on = !on {
		if err := set(on); err != nil {
			return err
		}
		select {
		case <-ctx.Done(): // Ctrl-C: the person has found it
			return nil
		case <-end.C:
			return nil
		case <-tick.C:
		}
	}
}

// hold keeps a second call away: it would take what this one changes for how the light was.
func hold(l light) (*os.File, error) {
	file := l.path
	if !l.screen {
		file = filepath.Join(l.path, "brightness")
	}
	f, err := os.OpenFile(file, os.O_WRONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s blinks already", l), f.Close())
	}
	return f, nil
}

// prepare returns how the light is switched, and how it becomes what it was.
func (l light) prepare() (set func(bool) error, restore func() error, err error) {
	if l.screen && pictured(l.path) {
		set, restore = pixels(framebuffer(l.path))
		return set, restore, nil
	}
	if l.screen {
		// DECSCNM: all of the screen in reverse (console_codes(4)).
		set = func(on bool) error {
			if on {
				return write(l.path, "\033[?5h")
			}
			return write(l.path, "\033[?5l")
		}
		return set, func() error { return set(false) }, nil
	}
	brightness, trigger := filepath.Join(l.path, "brightness"), filepath.Join(l.path, "trigger")
	before, err := os.ReadFile(brightness)
	if err != nil {
		return nil, nil, err
	}
	highest, err := os.ReadFile(filepath.Join(l.path, "max_brightness"))
	if err != nil {
		return nil, nil, err
	}
	triggers, err := os.ReadFile(trigger) // "none [kbd-capslock] timer": the one in brackets is in force
	if err != nil {
		return nil, nil, err
	}
	own := "none"
	for word := range strings.FieldsSeq(string(triggers)) {
		if strings.HasPrefix(word, "[") {
			own = strings.Trim(word, "[]")
		}
	}
	if err := write(trigger, "none"); err != nil {
		return nil, nil, err
	}
	set = func(on bool) error {
		if on {
			return write(brightness, strings.TrimSpace(string(highest)))
		}
		return write(brightness, "0")
	}
	return set, func() error {
		return errors.Join(write(brightness, strings.TrimSpace(string(before))), write(trigger, own))
	}, nil
}

// write writes into a file of the kernel, which it never creates.
func write(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
