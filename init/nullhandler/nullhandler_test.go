package nullhandler

import (
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestInstall: the signals do nothing to this process, while it starts others, which have the default again. Without
// the handler the first signal would end the test.
func TestInstall(t *testing.T) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	if err := Install(); err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		if err := syscall.Kill(os.Getpid(), Signals[i%len(Signals)]); err != nil {
			t.Fatal(err)
		}
		if i%300 != 0 {
			continue
		}
		out, err := exec.Command("/bin/cat", "/proc/self/status").Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			name, mask, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			if bits, err := strconv.ParseUint(mask, 16, 64); (name == "SigIgn" || name == "SigCgt") && (err != nil ||
				bits>>31&7 != 0) {
				t.Fatalf("a child has %s, %v", line, err)
			}
		}
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	<-caught // Go's own handlers work as before
}
