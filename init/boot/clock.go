package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/net/clock"
	"resinos/net/clockstatus"
	"resinos/net/savedtime"
	"resinos/services/osrelease"
)

// rtcTime is what the hardware clock says, in seconds since 1970; there is none where the board, or so far its driver,
// lacks it.
const rtcTime = "/sys/class/rtc/rtc0/since_epoch"

// startClock sets the clock to the latest of build time and hardware clock. It comes before anything that keeps a time:
// file systems note when they are attached, and e2fsck distrusts one that was written in the future.
func (s *System) startClock() error { return s.setClock(time.Time{}) }

// resumeClock goes on from the saved time where that is later.
func (s *System) resumeClock() error {
	saved, err := savedtime.Read(savedtime.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, s.setClock(saved))
}

// setClock is done at most twice a boot. A re-executed PID 1 that walks the boot again sets nothing: the clock is later
// by then.
func (s *System) setClock(saved time.Time) error {
	if !clock.Ours() {
		return nil
	}
	build, rtc, before := osrelease.BuildTime(), readRTC(rtcTime), time.Now()
	at, origin := savedtime.Floor(build, saved, rtc, before)
	if origin != clockstatus.FromClock {
		ts := unix.NsecToTimespec(at.UnixNano())
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
			return fmt.Errorf("set clock to %s: %w", at.UTC().Format(time.RFC3339), err)
		}
		s.env.Log.Info("clock set", "reason", string(origin), "now", at.UTC().Format(time.RFC3339), "was",
			before.UTC().Format(time.RFC3339))
	}
	if saved.After(at) {
		s.env.Log.Warn("saved time not believed", "reason", "later than this image or the hardware clock allows", "was",
			saved.UTC().Format(time.RFC3339), "now", at.UTC().Format(time.RFC3339))
	}
	return noteStart(clockstatus.Path, clockstatus.Start{
		Origin: origin, At: at.UTC(), Build: build.UTC(), Saved: known(saved), RTC: known(rtc), Before: before.UTC(),
	})
}

// known is nil for a time that nobody knows.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// noteStart leaves for timed and osctl how the clock began. What is there already is from a first step of this boot, or
// from a PID 1 before it executed itself again.
func noteStart(path string, now clockstatus.Start) error {
	status, err := clockstatus.Load(path)
	if err != nil || status.Start == nil {
		first := now
		status.Start, status.Servers = &first, []clockstatus.Server{}
	}
	if status.PID != 0 {
		return nil // the daemon keeps it
	}
	if now.Origin != clockstatus.FromClock {
		status.Start.Origin, status.Start.At = now.Origin, now.At
	}
	if now.Saved != nil {
		status.Start.Saved = now.Saved
	}
	if now.RTC != nil {
		status.Start.RTC = now.RTC
	}
	status.Origin = status.Start.Origin
	text, err := json.Marshal(status)
	if err != nil {
		return fmt.Errorf("note start of the clock: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("note start of the clock: %w", err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// readRTC reads rtcTime; zero where there is no clock or it says nothing.
func readRTC(path string) time.Time {
	text, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(n, 0)
}
