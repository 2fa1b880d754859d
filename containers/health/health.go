// Package health runs the health checks of containers. It decides what the check of a container is, when it is due, and
// which status follows from its results. The processes of a check end with it. The rules are those of Docker. The
// package never stops or restarts a container, and does not use the engine. Read State first, then Keeper.
//
//	            exit 0                        exit 0
//	starting ─────────────→ healthy ←───────────────────── unhealthy
//	    │                      │ Retries failures in a row     ↑
//	    └──────────────────────┴───────────────────────────────┘
//	      (while a container is starting, those within StartPeriod do not count)
package health

import (
	"strings"
	"time"

	"resinos/containers/app"
)

// Status is the health of a container.
type Status string

// The statuses, in Docker's words.
const (
	Starting  Status = "starting"
	Healthy   Status = "healthy"
	Unhealthy Status = "unhealthy"
)

// Check is a complete check, in which all defaults are filled in.
type Check struct {
	Args          []string // never empty
	Interval      time.Duration
	Timeout       time.Duration
	StartPeriod   time.Duration
	StartInterval time.Duration
	Retries       int
}

// Image is the check in the configuration of a container image: Docker's addition to the OCI format.
type Image struct {
	Healthcheck *app.Healthcheck `json:",omitempty"`
	Shell       []string         `json:",omitempty"`
}

// Docker's defaults.
const (
	defaultInterval      = 30 * time.Second
	defaultTimeout       = 30 * time.Second
	defaultStartInterval = 5 * time.Second
	defaultRetries       = 3
)

// Resolve returns the check of a container: each value from its app, else from its image, else Docker's default. It
// returns nil if there is no check.
func Resolve(want *app.Healthcheck, image Image) *Check {
	var h app.Healthcheck
	if image.Healthcheck != nil {
		h = *image.Healthcheck
	}
	if want != nil {
		h = app.Healthcheck{
			Test:     either(len(want.Test) > 0, want.Test, h.Test),
			Interval: either(want.Interval != 0, want.Interval, h.Interval),
			Timeout:  either(want.Timeout != 0, want.Timeout, h.Timeout),
			StartPeriod: either(want.StartPeriod != 0,
				want.StartPeriod, h.StartPeriod),
			StartInterval: either(want.StartInterval != 0,
				want.StartInterval, h.StartInterval),
			Retries: either(want.Retries != 0, want.Retries, h.Retries),
		}
	}
	args := arguments(h.Test, image.Shell)
	if len(args) == 0 {
		return nil
	}
	return &Check{
		Args:          args,
		Interval:      either(h.Interval > 0, h.Interval, defaultInterval),
		Timeout:       either(h.Timeout > 0, h.Timeout, defaultTimeout),
		StartPeriod:   max(h.StartPeriod, 0),
		StartInterval: either(h.StartInterval > 0, h.StartInterval, defaultStartInterval),
		Retries:       either(h.Retries > 0, h.Retries, defaultRetries),
	}
}

func either[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// arguments returns the command line of a test, nil if there is none or if it is not valid.
func arguments(test, shell []string) []string {
	if len(test) < 2 {
		return nil
	}
	switch test[0] {
	case "CMD":
		return test[1:]
	case "CMD-SHELL":
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return append(append([]string{}, shell...), test[1:]...)
	}
	return nil
}

const (
	maxLog    = 5    // results in the log
	maxOutput = 4096 // bytes of each
	// failed is the exit status of a check that was not carried out, or killed at its timeout.
	failed = -1
)

// Result is one check. Times are since the kernel started.
type Result struct {
	Start  time.Duration `json:"start"`
	End    time.Duration `json:"end"`
	Exit   int           `json:"exit"`
	Output string        `json:"output"`
}

// State is the health of a container from one start to its end. The zero State is of none.
type State struct {
	Life    string        `json:"life"` // distinguishes the starts of a container
	Started time.Duration `json:"started"`
	Status  Status        `json:"status"`
	Streak  int           `json:"streak"` // failures in a row that count
	Log     []Result      `json:"log"`    // the last ones, oldest first
}

// Took returns s after one more check, by Docker's rules.
func (s State) Took(c Check, r Result) State {
	r.Output = cut(r.Output)
	s.Log = append(append([]Result{}, s.Log[max(0, len(s.Log)+1-maxLog):]...), r)
	switch {
	case r.Exit == 0:
		s.Status, s.Streak = Healthy, 0
	case s.Status == Starting && r.Start-s.Started < c.StartPeriod:
	default:
		if s.Streak++; s.Streak >= c.Retries {
			s.Status = Unhealthy
		}
	}
	return s
}

// cut limits an output.
func cut(text string) string {
	if len(text) > maxOutput {
		text = text[:maxOutput] + "..."
	}
	return strings.ToValidUTF8(text, "�")
}

// Due returns when the next check is due, as time since the kernel started.
func (s State) Due(c Check) time.Duration {
	last := s.Started
	if n := len(s.Log); n > 0 {
		last = s.Log[n-1].End
	}
	if s.Status == Starting && last-s.Started < c.StartPeriod {
		return last + c.StartInterval
	}
	return last + c.Interval
}
