package stopsignal

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"resinos/mounts/testenv"
)

func TestCatches(t *testing.T) {
	status := "Name:\tsh\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000004000\nSigCgt:\t0000000000010002\n"
	for sig, want := range map[int]bool{2: true, 17: true, 15: false, 9: false, 64: false} {
		if got := catches(status, syscall.Signal(sig)); got != want {
			t.Errorf("catches(%d) = %v", sig, got)
		}
	}
	if !catches("SigCgt:\tgarbage\n", 15) {
		t.Error("what cannot be read must count as handled")
	}
}

// TestHandledBetweenWaits: the first process of containers with Init handles its stop signal at each moment: also
// between two waits, where it is as long as signals come.
func TestHandledBetweenWaits(t *testing.T) {
	tini := filepath.Join("..", "..", "bin", runtime.GOARCH, "crun", "usr", "bin", "tini-static")
	if _, err := exec.LookPath(tini); err != nil {
		testenv.Lacking(t, "tini: make bin/%s/crun/ready", runtime.GOARCH)
	}
	first := exec.Command(tini, "-s", "--", "sleep", "1000")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	pid := first.Process.Pid
	t.Cleanup(func() {
		_ = first.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = first.Wait()                          // it ends as sleep does
	})
	testenv.WaitFor(t, "it handles the signal", func() bool { return Handled(pid, syscall.SIGTERM) })
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = syscall.Kill(pid, syscall.SIGWINCH) // it passes it on to sleep, which ignores it
			}
		}
	}()
	for range 3000 {
		if !Handled(pid, syscall.SIGTERM) {
			t.Error("it counts as a program that does not handle the signal")
			break
		}
	}
	close(stop)
	<-done
}

// TestBusy: a program that shows as running at each look may be woken from its wait and have no processor, which cannot
// be told from one that is busy. Both are given their grace.
func TestBusy(t *testing.T) {
	busy := exec.Command("/bin/sh", "-c", "echo begun; while :; do :; done")
	out, err := busy.StdoutPipe()
	if err == nil {
		err = busy.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = busy.Process.Kill()
		_ = busy.Wait() // it was killed
	})
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if !Handled(busy.Process.Pid, syscall.SIGTERM) {
		t.Error("it counts as a program that does not handle the signal")
	}
}
