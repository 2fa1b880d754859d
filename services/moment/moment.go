// Package moment parses what people type for a point in time: a date, an hour, "-5min", "boot+90s".
//
// It never reads a clock: the caller passes in now, and times of the day are in the location of now. Read Moment first.
package moment

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Moment is a time of the wall clock or, if Time is zero, a time since the kernel started. The zero Moment is the
// start of the kernel.
type Moment struct {
	Time     time.Time     `json:"time,omitzero"`
	Boottime time.Duration `json:"boottime,omitempty"`
}

// Reached reports whether an event at these times is at the moment or later.
func (m Moment) Reached(wall time.Time, boottime time.Duration) bool {
	if m.Time.IsZero() {
		return boottime >= m.Boottime
	}
	return !wall.Before(m.Time)
}

// ErrForm is the error of Parse for text in no known form.
var ErrForm = errors.New(`not like "2026-11-25 10:00", "10:00", "today", "-5min", "5m ago" or "boot+90s"`)

// Parse reads a moment:
//
//	2026-11-25   2026-11-25 10:00   2026-11-25 10:00:05.25   2026-11-25T10:00:05Z
//	10:00   10:00:05                                          of the day that now is in
//	now   today   yesterday                                   the latter two at midnight
//	-5min   -1h30m   5m ago   2 hours 10 minutes ago          before now
//	boot   boot+90s                                           since the kernel started
func Parse(text string, now time.Time) (Moment, error) {
	text = strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(text, "boot"); ok {
		return sinceBoot(rest)
	}
	if span, ok := strings.CutPrefix(text, "-"); ok {
		return before(now, span)
	}
	if span, ok := strings.CutSuffix(text, " ago"); ok {
		return before(now, span)
	}
	year, month, day := now.Date()
	midnight := time.Date(year, month, day, 0, 0, 0, 0, now.Location())
	switch text {
	case "now":
		return Moment{Time: now}, nil
	case "today":
		return Moment{Time: midnight}, nil
	case "yesterday":
		return Moment{Time: midnight.AddDate(0, 0, -1)}, nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", time.DateTime, time.RFC3339} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil && !t.IsZero() {
			return Moment{Time: t}, nil
		}
	}
	for _, layout := range []string{"15:04", time.TimeOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return Moment{Time: time.Date(year, month, day, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(),
				now.Location())}, nil
		}
	}
	return Moment{}, fmt.Errorf("parse time %q: %w", text, ErrForm)
}

func sinceBoot(rest string) (Moment, error) {
	if rest == "" {
		return Moment{}, nil
	}
	span, ok := strings.CutPrefix(rest, "+")
	d, err := parseSpan(span)
	if !ok {
		err = ErrForm
	}
	if err != nil {
		return Moment{}, fmt.Errorf("parse time %q: %w", "boot"+rest, err)
	}
	return Moment{Boottime: d}, nil
}

func before(now time.Time, span string) (Moment, error) {
	d, err := parseSpan(span)
	if err != nil {
		return Moment{}, fmt.Errorf("parse time span %q: %w", span, err)
	}
	return Moment{Time: now.Add(-d)}, nil
}

// maxSpan is a hundred years.
const maxSpan = 100 * 365 * 24 * time.Hour

// parseSpan reads "1h30m", "5 min", "2 hours 10 minutes".
func parseSpan(text string) (time.Duration, error) {
	rest := strings.TrimSpace(text)
	if rest == "" {
		return 0, ErrForm
	}
	var sum time.Duration
	for rest != "" {
		end := strings.IndexFunc(rest, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
		if end < 0 {
			return 0, ErrForm // a number without a unit
		}
		n, err := strconv.ParseFloat(rest[:end], 64)
		if err != nil {
			return 0, ErrForm
		}
		rest = strings.TrimLeft(rest[end:], " ")
		end = strings.IndexFunc(rest, func(r rune) bool { return r < 'a' || r > 'z' })
		if end < 0 {
			end = len(rest)
		}
		unit := unitOf(rest[:end])
		if rest = strings.TrimLeft(rest[end:], " "); unit == 0 {
			return 0, ErrForm
		}
		if n*float64(unit) > float64(maxSpan-sum) {
			return 0, errors.New("more than a hundred years")
		}
		sum += time.Duration(n * float64(unit))
	}
	return sum, nil
}

// unitOf returns 0 for an unknown unit. It is a switch because PID 1's binary fills no maps at its start.
func unitOf(name string) time.Duration {
	switch name {
	case "ms":
		return time.Millisecond
	case "s", "sec", "second", "seconds":
		return time.Second
	case "m", "min", "minute", "minutes":
		return time.Minute
	case "h", "hour", "hours":
		return time.Hour
	case "d", "day", "days":
		return 24 * time.Hour
	case "w", "week", "weeks":
		return 7 * 24 * time.Hour
	}
	return 0
}
