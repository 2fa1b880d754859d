package moment

import (
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 30, 15, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-11-24":                "2026-11-24T00:00:00Z",
		"2026-11-25 10:00":          "2026-11-25T10:00:00Z",
		" 2026-11-25 10:00:05.25 ":  "2026-11-25T10:00:05.25Z",
		"2026-11-25T10:00:05+01:00": "2026-11-25T09:00:05Z",
		"10:00":                     "2026-11-25T10:00:00Z",
		"23:59:58":                  "2026-11-25T23:59:58Z",
		"now":                       "2026-11-25T12:30:15Z",
		"today":                     "2026-11-25T00:00:00Z",
		"yesterday":                 "2026-11-24T00:00:00Z",
		"-5min":                     "2026-11-25T12:25:15Z",
		"-1h30m":                    "2026-11-25T11:00:15Z",
		"5m ago":                    "2026-11-25T12:25:15Z",
		"2 hours 10 minutes ago":    "2026-11-25T10:20:15Z",
		"-1.5d":                     "2026-11-24T00:30:15Z",
		"-1w":                       "2026-11-18T12:30:15Z",
	} {
		m, err := Parse(text, now)
		if got := m.Time.UTC().Format(time.RFC3339Nano); err != nil || got != want {
			t.Errorf("Parse(%q) = %s, %v, want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]time.Duration{"boot": 0, "boot+90s": 90 * time.Second,
		"boot+1min30s": 90 * time.Second} {
		if m, err := Parse(text, now); err != nil || !m.Time.IsZero() || m.Boottime != want {
			t.Errorf("Parse(%q) = %+v, %v, want %v", text, m, err, want)
		}
	}
	for _, text := range []string{"", "-", "ago", " ago", "5", "-5", "-5parsecs", "boot90s", "boot+", "boots", "25:00",
		"2026-13-01", "tomorrow", "-999999999999d", "-1..5s", "-min", "0001-01-01"} {
		if m, err := Parse(text, now); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", text, m)
		} else if !strings.Contains(err.Error(), "parse time") {
			t.Errorf("Parse(%q): %v", text, err)
		}
	}
}

func TestReached(t *testing.T) {
	wall := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		m    Moment
		want bool
	}{
		{Moment{}, true}, {Moment{Time: wall}, true}, {Moment{Time: wall.Add(1)}, false},
		{Moment{Boottime: time.Minute}, true}, {Moment{Boottime: time.Minute + 1}, false},
	} {
		if got := test.m.Reached(wall, time.Minute); got != test.want {
			t.Errorf("%+v reached: %v", test.m, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"-5min", "1h 2 m ago", "boot+1.5s", "2026-11-25 10:00", "10:00", "yesterday"} {
		f.Add(text)
	}
	now := time.Date(2026, 11, 25, 12, 30, 15, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		m, err := Parse(text, now)
		if err == nil && (m.Boottime < 0 || m.Boottime > maxSpan || strings.HasPrefix(text, "-") && m.Time.After(now)) {
			t.Errorf("Parse(%q) = %+v", text, m)
		}
	})
}
