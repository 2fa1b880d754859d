// Package stopsignal finds out whether the first program of a container handles its stop signal. It reads /proc and
// sends nothing. Read Handled first.
package stopsignal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Handled reports whether the first program of a container has a handler for sig. The kernel drops a signal to the
// first process of a pid namespace that has no handler for it (pid_namespaces(7)), so waiting for such a program to end
// would be in vain.
func Handled(pid int, sig syscall.Signal) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	if err != nil || sig < 1 || sig > 64 {
		return true
	}
	for range looks {
		switch calls := callsOf(pid); {
		case catches(string(status), sig) || awaits(calls):
			return true
		case !slices.Contains(calls, running):
			return false
		}
		time.Sleep(betweenLooks) // sleep: nobody tells when a thread enters a system call
		if status, err = os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err != nil {
			return false // it has ended
		}
	}
	return true // it is not known: a wait for nothing costs the grace, a kill may cost data
}

// A program that waits for signals in a loop, as the first process of containers with Init does, blocks them between
// two waits. Its status and its system call are two reads: if it ran in the second, the first may have been of a wait,
// and both are read again. One that shows as running at each of so many looks may be busy, or woken and without
// processor, as in a container whose limit of processor time is used up.
const (
	looks        = 50
	betweenLooks = time.Millisecond
	running      = "running" // proc(5): the text of /proc/PID/syscall
)

// sigtimedwait are the numbers of that system call: of this architecture, and of programs of 32 bits (linux/arm and
// linux/386 have the same two).
var sigtimedwait = []string{strconv.Itoa(unix.SYS_RT_SIGTIMEDWAIT), "177", "421"}

// callsOf returns the number of the system call in which each thread of a program is, or running.
func callsOf(pid int) (calls []string) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid)) // only a malformed pattern fails
	for _, path := range threads {
		if text, err := os.ReadFile(path); err == nil {
			call, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
			calls = append(calls, call)
		}
	}
	return calls
}

// awaits reports whether a thread waits for signals with sigwait(3): meanwhile they do not show as blocked.
func awaits(calls []string) bool {
	return slices.ContainsFunc(calls, func(call string) bool { return slices.Contains(sigtimedwait, call) })
}

// catches parses the text of /proc/PID/status: the signal is caught, or is blocked and so may be waited for.
func catches(status string, sig syscall.Signal) bool {
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		if name != "SigCgt" && name != "SigBlk" {
			continue
		}
		var mask uint64
		if _, err := fmt.Sscanf(value, "%x", &mask); err != nil || mask>>(sig-1)&1 == 1 {
			return true
		}
	}
	return false
}
