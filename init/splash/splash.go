// Package splash shows the owner's logo on the screen until an app draws: the applet splash, which draws once and ends.
// PID 1 starts it as a service when the boot partition is attached, again when devd asks for it because a driver has
// added another screen, and once more when the services have ended.
//
//	/mnt/boot/splash/resin-logo.png ──rowpng──▶ scaler ──▶ drawn ──framebuffer──▶ /dev/fb0
//
// It never keeps a screen: an app that opens the framebuffer or the DRM device draws over the logo. It draws nothing,
// and says why, if the file is no picture within the limits. Read Run first.
package splash

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"resinos/init/splash/framebuffer"
	"resinos/init/splash/rowpng"
	"resinos/services/boottime"
)

// Where the device has the logo, its screen and the terminal that the kernel writes to, and where the applet notes that
// the terminal shows no text: whoever uses the terminal sets it back.
const (
	Logo     = "/mnt/boot/splash/resin-logo.png"
	Screen   = "/dev/fb0"
	Terminal = "/dev/tty1"
)

// Plausible reports whether a file may be a logo, by its size alone: no driver is loaded for another one.
func Plausible(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() > 0 && info.Size() <= rowpng.MostBytes
}

// Main is the applet.
func Main(_ context.Context, args []string, log *slog.Logger) error {
	flags := flag.NewFlagSet("splash", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return fmt.Errorf("read arguments: splash takes none: %w", flag.ErrHelp)
	}
	began := time.Now()
	s, err := framebuffer.Open(Screen)
	if err != nil {
		return err
	}
	defer s.Close() // what was drawn is there
	// A logo that cannot be drawn is the owner's affair, and no fault of the service.
	logo, err := load(Logo, s.Layout)
	if err != nil {
		log.Warn("splash not drawn", "error", err)
		return nil
	}
	if err := show(s, logo); err != nil {
		return err
	}
	log.Info("splash drawn", "after", boottime.Now().Round(time.Millisecond),
		"took", time.Since(began).Round(time.Millisecond),
		"state", fmt.Sprintf("%d x %d on a screen of %d x %d", logo.width, logo.height, s.Width, s.Height))
	return nil
}

// show draws. The kernel stops to draw text first, or its next line would be written into the logo.
func show(s *framebuffer.Screen, logo *drawn) error {
	if err := framebuffer.SetMode(Terminal, framebuffer.Graphics); err != nil {
		return err
	}
	if err := draw(s, logo); err != nil {
		return errors.Join(err, framebuffer.SetMode(Terminal, framebuffer.Text))
	}
	return nil
}
