package testenv

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// Patience is how long a test waits for what has to happen before it fails. It measures nothing: where it passes, it waits no longer
// than it must, and CI, whose machines are shared, waits ten times as long before it calls a test failed.
func Patience() time.Duration {
	if CI() {
		return 5 * time.Minute
	}
	return 30 * time.Second
}

// pollPause is between two looks of WaitFor and Never. At a twentieth of a processor, looking must leave time for what is awaited.
const pollPause = 2 * time.Millisecond

// WaitFor returns as soon as happened says so, and fails the test if it never does. Read Patience.
func WaitFor(t testing.TB, what string, happened func() bool) {
	t.Helper()
	if err := Await(what, happened); err != nil {
		t.Fatal(err)
	}
}

// Await is WaitFor for what a test binary does beside a test, as a process of its own.
func Await(what string, happened func() bool) error {
	for end := time.Now().Add(Patience()); !happened(); time.Sleep(pollPause) { // sleep: between two looks
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %s", what, Patience())
		}
	}
	return nil
}

// Receive returns what comes from a channel, or its zero value once it is closed, and fails the test if nothing ever comes.
func Receive[T any](t testing.TB, what string, from <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(Patience()):
		t.Fatalf("%s: not within %s", what, Patience())
	}
	return got
}

// Never fails the test if happened says so within a time. A slow machine may hide what is looked for, but never fails such a test:
// a wait for the moment from which on it could happen belongs before it.
func Never(t testing.TB, within time.Duration, what string, happened func() bool) {
	t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(pollPause) { // sleep: between two looks
		if happened() {
			t.Fatalf("%s, which must not happen", what)
		}
		if time.Now().After(end) {
			return
		}
	}
}

// NeverReceive fails the test if something comes from a channel within a time, as Never does.
func NeverReceive[T any](t testing.TB, within time.Duration, what string, from <-chan T) {
	t.Helper()
	select {
	case got := <-from:
		t.Fatalf("%s, which must not happen: %+v", what, got)
	case <-time.After(within):
	}
}

// Figures reports whether a test may hold what it measures, time or memory, to a figure: RESINOS_BENCH is set, on a machine that does
// nothing else. CI's machines are shared, and tests there count events.
func Figures() bool { return os.Getenv("RESINOS_BENCH") != "" }

// AtMost tells how long something took, and where figures are asked for holds it to one.
func AtMost(t testing.TB, what string, took, most time.Duration) {
	t.Helper()
	t.Logf("%s: %s", what, took.Round(10*time.Microsecond))
	if Figures() && took > most {
		t.Errorf("%s took %s, want at most %s", what, took, most)
	}
}

// Timeout is the argument -test.timeout for a test binary that a test runs, so that it ends, and says where it hangs, before the
// test itself is ended.
func Timeout(t *testing.T) string {
	left := time.Duration(0) // none
	if end, limited := t.Deadline(); limited {
		left = max(time.Until(end)*9/10, time.Second)
	}
	return "-test.timeout=" + left.String()
}
