package oomscore

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func own(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// TestBorn: each child has the score that it was made with, however many are made at once, and this process keeps its
// own. Scores that were raised may be lowered to what they were by anybody, so the test needs no right.
func TestBorn(t *testing.T) {
	before := own(t)
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("100"), 0); err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile("/proc/self/oom_score_adj", []byte(before), 0)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			var out strings.Builder
			cmd := exec.Command("cat", "/proc/self/oom_score_adj")
			cmd.Stdout = &out
			score := 200 + 10*i
			if err := errors.Join(Born(score, cmd.Start), cmd.Wait()); err != nil {
				t.Error(err)
			}
			if got := strings.TrimSpace(out.String()); got != strconv.Itoa(score) {
				t.Errorf("born with %s, want %d", got, score)
			}
		})
	}
	wg.Wait()
	if got := own(t); got != "100" {
		t.Errorf("own score is %s after all, want 100", got)
	}
	if err := Born(300, func() error { return os.ErrInvalid }); err != os.ErrInvalid || own(t) != "100" {
		t.Errorf("after a failed start: %v, score %s", err, own(t))
	}
}
