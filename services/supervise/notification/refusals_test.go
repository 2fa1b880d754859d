package notification

import (
	"testing"
	"time"
)

func TestRefusalsAreBoundedAndCounted(t *testing.T) {
	var r refusals
	now := time.Now()
	said := 0
	for range 1000 {
		if report, _ := r.next(now); report {
			said++
		}
	}
	if said != maxReports {
		t.Errorf("%d of 1000 refusals are logged, want %d", said, maxReports)
	}
	if report, unreported := r.next(now.Add(reportEvery)); !report || unreported != 1000-maxReports {
		t.Errorf("a minute later: logged %v, %d unreported before it, want %d", report, unreported, 1000-maxReports)
	}
	if report, unreported := r.next(now.Add(reportEvery)); !report || unreported != 0 {
		t.Errorf("those without a line are counted twice: %v, %d", report, unreported)
	}
}
