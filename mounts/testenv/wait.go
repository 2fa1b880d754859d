package testenv

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// Patience is how long a test waits for something that must happen before it fails. It is not a measurement: a test
// that passes waits no longer than necessary. In CI, whose machines are shared, it is ten times as long.
func Patience() time.Duration {
	if CI() {
		return 5 * time.Minute
	}
	return 30 * time.Second
}

// pollPause is the pause between two looks of WaitFor and Never. With a twentieth of a processor, looking must leave
// time for what the test waits for.
const pollPause = 2 * time.Millisecond

// WaitFor returns as soon as happened returns true, and fails the test if that does not happen within Patience.
func WaitFor(t testing.TB, what string, happened func() bool) {
	t.Helper()
	if err := Await(what, happened); err != nil {
		t.Fatal(err)
	}
}

// Await is WaitFor for a process of its own that a test binary runs beside a test.
func Await(what string, happened func() bool) error {
	for end := time.Now().Add(Patience()); !happened(); time.Sleep(pollPause) { // sleep: between two looks
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %s", what, Patience())
		}
	}
	return nil
}

// Receive returns the next value of a channel, or the zero value once it is closed, and fails the test if none comes
// within Patience.
func Receive[T any](t testing.TB, what string, from <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(Patience()):
		t.Fatalf("%s: not within %s", what, Patience())
	}
	return got
}

// Never fails the test if happened returns true within a time. On a slow machine the test may miss the event, but never
// fails because of that. Before calling Never, the test must wait for the moment from which on the event could happen.
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

// NeverReceive fails the test if a value comes from a channel within a time. It has the same limits as Never.
func NeverReceive[T any](t testing.TB, within time.Duration, what string, from <-chan T) {
	t.Helper()
	select {
	case got := <-from:
		t.Fatalf("%s, which must not happen: %+v", what, got)
	case <-time.After(within):
	}
}

// Limit is for what takes a time instead of a channel, such as the dialling of a connection: Patience for what must
// happen, and a moment for what must not. For what must not, it has the same limits as Never.
func Limit(must bool) time.Duration {
	if must {
		return Patience()
	}
	return 300 * time.Millisecond
}

// Figures reports whether a test may compare what it measures, time or memory, with a limit: RESINOS_BENCH is set, on a
// machine that does nothing else. The machines of CI are shared; tests there count events.
func Figures() bool { return os.Getenv("RESINOS_BENCH") != "" }

// AtMost logs how long something took, and fails the test if that is too long and Figures is true.
func AtMost(t testing.TB, what string, took, most time.Duration) {
	t.Helper()
	t.Logf("%s: %s", what, took.Round(10*time.Microsecond))
	if Figures() && took > most {
		t.Errorf("%s took %s, want at most %s", what, took, most)
	}
}

// Timeout returns the argument -test.timeout for a test binary that a test runs, so that it ends, and reports where it
// hangs, before the test itself is ended.
func Timeout(t *testing.T) string {
	left := time.Duration(0) // no timeout
	if end, limited := t.Deadline(); limited {
		left = max(time.Until(end)*9/10, time.Second)
	}
	return "-test.timeout=" + left.String()
}
