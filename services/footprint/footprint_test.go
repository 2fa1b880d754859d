package footprint

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}

// TestShrinkEndsThreads: many threads were needed once; what remains of them is few, and the program goes on.
func TestShrinkEndsThreads(t *testing.T) {
	const many = 40
	block := func() {
		var all sync.WaitGroup
		var pipes [many][2]int
		for i := range pipes {
			if err := unix.Pipe2(pipes[i][:], unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			all.Go(func() { unix.Read(pipes[i][0], make([]byte, 1)) }) // blocks a thread
		}
		testenv.WaitFor(t, "threads that block", func() bool { return threads(t) >= many })
		for _, p := range pipes {
			unix.Close(p[1])
		}
		all.Wait()
		for _, p := range pipes {
			unix.Close(p[0])
		}
	}
	for range 3 {
		block()
		Shrink()
		testenv.WaitFor(t, "few threads", func() bool { return threads(t) < many/2 })
	}
}

// TestShrinkSparesLockedProcess: a process that dies with the thread that started it lives on if that one is locked.
func TestShrinkSparesLockedProcess(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		Shrink()
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("cat ended with %v", err)
	}
}

// TestShrinkAfterStops: what waits for its time ends when it is told, and with the context.
func TestShrinkAfterStops(t *testing.T) {
	ShrinkAfter(t.Context(), time.Hour)()
	ctx, cancel := context.WithCancel(t.Context())
	stop := ShrinkAfter(ctx, 0)
	cancel()
	stop()
}
