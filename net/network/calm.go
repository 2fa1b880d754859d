package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// calmAfter is how long after its start, and after each lease, netd gives back what only these needed.
const calmAfter = 30 * time.Second

// calm gives back what only the start of this process and a new lease needed: free memory of the heap, and the pages of
// the program that are mapped. The kernel keeps these in its cache as long as it has room, and maps those that are used
// again. The caller reports each lease with leased. It returns at once; what it started ends with ctx.
func calm(ctx context.Context, log *slog.Logger) (leased, wait func()) {
	done := make(chan struct{}) // closed when it has ended
	again := make(chan struct{}, 1)
	go func() {
		defer close(done)
		timer := time.NewTimer(calmAfter)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-again:
				timer.Reset(calmAfter)
				continue
			case <-timer.C:
			}
			debug.FreeOSMemory()
			if err := unmapProgram(); err != nil {
				log.Debug("pages of the program stay mapped", "error", err)
			}
		}
	}()
	leased = func() {
		select {
		case again <- struct{}{}:
		default: // the last one has not been noticed yet
		}
	}
	return leased, func() { <-done }
}

// unmapProgram removes the pages of this program that can only be read from the page table (madvise(2), MADV_DONTNEED:
// the next access maps the page of the file again).
func unmapProgram() error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("read own mappings: %w", err)
	}
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	for _, r := range readOnly(string(maps), program) {
		if _, _, fault := unix.Syscall(unix.SYS_MADVISE, r.from, r.to-r.from, unix.MADV_DONTNEED); fault != 0 {
			return fmt.Errorf("unmap pages of %s: %w", program, fault)
		}
	}
	return nil
}

// addresses is a part of the address space, without its end.
type addresses struct{ from, to uintptr }

// readOnly returns where the lines of /proc/PID/maps (proc_pid_maps(5)) have the file and no right to write:
//
//	00400000-00793000 r-xp 00000000 07:00 123    /usr/sbin/netd
func readOnly(maps, file string) (found []addresses) {
	for line := range strings.Lines(maps) {
		words := strings.Fields(line)
		if len(words) != 6 || words[5] != file || !strings.HasPrefix(words[1], "r-") {
			continue
		}
		var a addresses
		if n, err := fmt.Sscanf(words[0], "%x-%x", &a.from, &a.to); err == nil && n == 2 && a.from < a.to {
			found = append(found, a)
		}
	}
	return found
}
