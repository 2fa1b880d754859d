package notification

import (
	"slices"
	"strings"
	"sync"
	"time"

	"resinos/services/notify"
)

// refusals limits the lines of the log about refused messages: every process of the device may send them.
type refusals struct {
	mu         sync.Mutex // guards the rest: the goroutine of Run and the supervisor refuse
	since      time.Time  // when the lines began to be counted
	reported   int
	unreported int // refused without a line since then
}

const (
	maxReports  = 10 // lines in each …
	reportEvery = time.Minute
)

// next counts a refusal. It returns whether it may be logged, and how many were not since the last one that was.
func (r *refusals) next(now time.Time) (report bool, unreported int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.since) >= reportEvery {
		r.since, r.reported = now, 0
	}
	if r.reported >= maxReports {
		r.unreported++
		return false, 0
	}
	r.reported++
	unreported, r.unreported = r.unreported, 0
	return true, unreported
}

// Faults are the names of the lines in messages of one service that were ignored and reported.
type Faults []string

// maxFaults is how many are reported of one service.
const maxFaults = 16

// Next returns the faults of m to report: those with names that no earlier message had.
func (f *Faults) Next(m notify.Message) (report []error) {
	for _, err := range m.Ignored {
		name, _, _ := strings.Cut(err.Error(), "=")
		if slices.Contains(*f, name) || len(*f) >= maxFaults {
			continue
		}
		*f = append(*f, name)
		report = append(report, err)
	}
	return report
}
