package savedstate

import (
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/services/proc"
	"resinos/services/supervise/lifecycle"
)

// TestFormat: the text has the form of its version. A change needs another version, or an update that re-executes PID 1
// starts all services again.
func TestFormat(t *testing.T) {
	text, err := os.ReadFile("testdata/state.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	testenv.Golden(t, "state.json", string(again)+"\n")
}

func TestDecodeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"": "unexpected end", "{": "unexpected end", "{}": "version 0", `{"version":2}`: "version 2",
		`{"version":1,"services":3}`: "services",
	} {
		if _, err := Decode([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Decode(%q) = %v, want %q", text, err, want)
		}
	}
}

// TestLifecycle: a state of a service is the same after Set and Lifecycle. Times may differ by as much as passes
// between the reading of two clocks.
func TestLifecycle(t *testing.T) {
	now := time.Now()
	want := lifecycle.Service{
		Phase: lifecycle.Backoff, Since: now, Deadline: now.Add(time.Minute),
		UpSince: now.Add(-time.Hour), Began: now.Add(-2 * time.Hour), Epoch: now.Add(-time.Hour), Seed: 7, Broken: true,
		Wanted: true, Going: true, Missed: true, Soon: true, Reloading: true, Spoiled: true, Blame: "blame", Why: "why",
		PID: 3, Last: proc.Status{Pid: 2, Wait: syscall.WaitStatus(256)}, Tries: 1, Lives: 2, Failures: 3, Losses: 4,
	}
	var s Service
	s.Set(want)
	got, err := s.Lifecycle(lifecycle.Service{Epoch: want.Epoch, Seed: want.Seed, Broken: true})
	if err != nil {
		t.Fatal(err)
	}
	if !got.Window.IsZero() {
		t.Errorf("a time that was zero is %v", got.Window)
	}
	for _, pair := range [][2]*time.Time{
		{&got.Since, &want.Since}, {&got.Deadline, &want.Deadline}, {&got.UpSince, &want.UpSince}, {&got.Began,
			&want.Began},
	} {
		if d := pair[0].Sub(*pair[1]); d.Abs() > testenv.Patience() { // the host may pause between the two clocks
			t.Errorf("time %v became %v", pair[1], pair[0])
		}
		*pair[0] = *pair[1]
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("state %+v became %+v", want, got)
	}
	s.Phase = "stay"
	if _, err := s.Lifecycle(lifecycle.Service{}); err == nil {
		t.Error("phase stay is accepted, which is none")
	}
}

// TestDescriptors: each is given out once.
func TestDescriptors(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var files Files
	if first, second := files.Add(r), files.Add(w); first != 0 || second != 1 || len(files) != 2 {
		t.Errorf("positions %d and %d of %d files", first, second, len(files))
	}
	fd, err := syscall.Dup(int(r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	d := Descriptors{fd, 1 << 20}
	f, err := d.Hold(0, "kept")
	if err != nil || f.Name() != "kept" {
		t.Fatalf("%v, %v", f, err)
	}
	defer f.Close()
	for _, i := range []int{0, -1, 2} {
		if _, err := d.Take(i); err == nil {
			t.Errorf("descriptor %d is given out", i)
		}
	}
	if _, err := d.Hold(1, "closed"); err == nil {
		t.Error("a number that is no descriptor is held")
	}
}
