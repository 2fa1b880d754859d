package demand

import "time"

// quiet determines when to answer a series of changes: quietFor after the last one, and never later than quietMost
// after the first. The zero quiet has seen no change.
type quiet struct{ first, last time.Time }

const (
	quietFor  = 50 * time.Millisecond
	quietMost = 500 * time.Millisecond
)

func (q *quiet) note(now time.Time) {
	if q.first.IsZero() {
		q.first = now
	}
	q.last = now
}

func (q quiet) due() time.Time {
	due, latest := q.last.Add(quietFor), q.first.Add(quietMost)
	if latest.Before(due) {
		return latest
	}
	return due
}
