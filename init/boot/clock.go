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

// rtcTime is the file with the time of the hardware clock, in seconds since 1970. It is missing if the board has no
// such clock, or while its driver is not loaded.
const rtcTime = "/sys/class/rtc/rtc0/since_epoch"

// startClock sets the clock to the later of build time and hardware clock. This step comes before all that record a
// time: file systems record when they are mounted, and e2fsck reports a time in the future as a fault.
func (s *System) startClock() error { return s.setClock(time.Time{}) }

// resumeClock sets the clock to the saved time if that is later.
func (s *System) resumeClock() error {
	saved, err := savedtime.Read(savedtime.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, s.setClock(saved))
}

// setClock runs at most twice in a boot. A re-executed PID 1 that carries out the boot again sets nothing, because the
// clock is later by then.
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

// known returns nil for a time that is not known.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// noteStart writes for timed and osctl how the clock was set. An existing file is from an earlier step of this boot, or
// from an earlier life of PID 1.
func noteStart(path string, now clockstatus.Start) error {
	status, err := clockstatus.Load(path)
	if err != nil || status.Start == nil {
		first := now
		status.Start, status.Servers = &first, []clockstatus.Server{}
	}
	if status.PID != 0 {
		return nil // timed maintains the file by now
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

// readRTC reads rtcTime. It returns zero if there is no clock, or if the clock gives no time.
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
