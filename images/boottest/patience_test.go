package boottest

import (
	"errors"
	"os/exec"
	"testing"
	"time"
)

func TestDeadline(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name    string
		span    time.Duration
		uptimes []time.Duration // of the looks; the span is over at the last one, and not before
	}{
		{"from the first look on", 60 * s, []time.Duration{300 * s, 359 * s, 360 * s}},
		{"a guest that stands still", 60 * s, []time.Duration{300 * s, 300 * s, 300 * s, 400 * s}},
		{"the next boot", 60 * s, []time.Duration{300 * s, 340 * s, 10 * s, 19 * s, 21 * s}},
		{"from the beginning of a boot", 60 * s, []time.Duration{0, 59 * s, 60 * s}},
		{"one look", 0, []time.Duration{300 * s}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := deadline{left: tt.span}
			for i, uptime := range tt.uptimes {
				if got, want := d.passed(uptime), i == len(tt.uptimes)-1; got != want {
					t.Errorf("look %d, at %v: passed = %v, want %v", i, uptime, got, want)
				}
			}
		})
	}
}

func TestCutUptime(t *testing.T) {
	for _, tt := range []struct {
		said, out string
		uptime    time.Duration
	}{
		{"12.50 3.25\nup 1 2\nmore\n", "up 1 2\nmore\n", 12500 * time.Millisecond},
		{"12345.06 0.00\n", "", 12345060 * time.Millisecond},
		{"sh: syntax error\n", "sh: syntax error\n", -1},
		{"", "", -1},
	} {
		uptime, out, err := cutUptime([]byte(tt.said))
		if err != nil {
			uptime = -1
		}
		if uptime.Round(time.Millisecond) != tt.uptime.Round(time.Millisecond) || string(out) != tt.out {
			t.Errorf("cutUptime(%q) = %v, %q, %v", tt.said, uptime, out, err)
		}
	}
}

// TestTellUptime: a shell tells its clock before what a command prints, and the status is the command's.
func TestTellUptime(t *testing.T) {
	s := scene{vars: map[string]string{"BOARD": "it's one"}}
	said, err := exec.Command("/bin/sh", "-c", tellUptime+s.shellVars()+`echo "$BOARD"; (exit 3)`).Output()
	var status *exec.ExitError
	if !errors.As(err, &status) || status.ExitCode() != 3 {
		t.Errorf("the command ends with %v, want status 3", err)
	}
	if uptime, out, err := cutUptime(said); err != nil || uptime <= 0 || string(out) != "it's one\n" {
		t.Errorf("uptime %v, output %q, %v", uptime, out, err)
	}
}

// TestHostLimit: the host gives up long after the guest's own time has.
func TestHostLimit(t *testing.T) {
	for _, ci := range []string{"", "true"} {
		t.Setenv("CI", ci)
		for _, span := range []time.Duration{0, time.Minute, 15 * time.Minute} {
			if limit := hostLimit(span); limit < 2*patient(span) || limit < patient(BootTimeout) {
				t.Errorf("CI=%q: hostLimit(%v) = %v", ci, span, limit)
			}
		}
	}
}
