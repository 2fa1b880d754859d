// Package proc owns every fork and every wait of the process it runs in, which on the device is PID 1: Reaper starts
// programs, reaps every child and orphan, and reports to each starter how its process ended. Nothing else in the binary
// may fork or wait (os/exec beside a wait4 loop returned wrong results for 168 of 300 commands). It never decides what
// to run, and keeps no goroutine for a process. Read Reaper first.
package proc

import (
	"os"
	"strconv"
	"syscall"
)

// Command is a program to start. The zero value of a field means: no arguments, an empty environment, /, /dev/null, no
// cgroup, no change of user.
type Command struct {
	Path                  string   // absolute: no PATH is searched
	Args                  []string // beginning with the program's own name; nil means just Path
	Env                   []string // the whole environment, NAME=value
	Dir                   string   // working directory
	Stdin, Stdout, Stderr *os.File
	Extra                 []*os.File // become descriptors 3, 4, … of the child

	// Cgroup is an open cgroup v2 directory. The child starts in it (clone3), so that none of its instructions runs
	// outside.
	Cgroup *os.File
	// OOMScore is the child's oom_score_adj from its first instruction on; see Reaper.Start.
	OOMScore int
	// Credential changes user and groups before the program runs.
	Credential *syscall.Credential
	// MountNamespace starts the child in a mount namespace of its own, a copy of ours.
	MountNamespace bool
	// SameSession leaves the child in the caller's session and process group. Without it the
	// child leads a new session, so a signal to its group reaches nothing else.
	SameSession bool

	// OnExit, if not nil, is called once after the end of the process, from the reaper's
	// goroutine: it must not block and must not call the Reaper.
	OnExit func(Status)
}

// Status is how a process ended.
type Status struct {
	Pid  int
	Wait syscall.WaitStatus
	// Unknown: an adopted process ended as the child of another process, and only that one knows how.
	Unknown bool
}

// OK reports whether the process ended by itself with exit code 0.
func (s Status) OK() bool { return !s.Unknown && s.Wait.Exited() && s.Wait.ExitStatus() == 0 }

// String returns the status in words: "exit code 3", "killed by signal 9", "killed by signal 6, core dumped".
func (s Status) String() string {
	if s.Unknown {
		return "ended, its parent knows how"
	}
	if s.Wait.Exited() {
		return "exit code " + strconv.Itoa(s.Wait.ExitStatus())
	}
	text := "killed by signal " + strconv.Itoa(int(s.Wait.Signal()))
	if s.Wait.CoreDump() {
		text += ", core dumped"
	}
	return text
}

// Process is one started program until its end is known.
type Process struct {
	Pid int
	// Degraded is the reason why the process runs with less than the Command asked for (its OOM score could not be
	// set); nil if nothing is missing.
	Degraded error

	reaper *Reaper
	done   chan Status
	onExit func(Status)
}

// Done delivers the Status once, when the process has ended and was reaped. The reaper never closes the channel and
// never waits for a reader.
func (p *Process) Done() <-chan Status { return p.done }

// Signal sends sig to the process and to nothing else: the reaper's lock is held, so the pid cannot have been reaped
// and reused meanwhile. After the end of the process the error is os.ErrProcessDone.
func (p *Process) Signal(sig syscall.Signal) error { return p.reaper.signal(p, p.Pid, sig) }

// SignalGroup sends sig to the process group that the process leads, with the same safety.
func (p *Process) SignalGroup(sig syscall.Signal) error { return p.reaper.signal(p, -p.Pid, sig) }

// KillLeftovers sends SIGKILL to what is left in the process group and session that the process led. Call it right
// after the end of the process: a group keeps its number while it has a member, and afterwards the number is reused
// only after all other pids.
func (p *Process) KillLeftovers() {
	_ = syscall.Kill(-p.Pid, syscall.SIGKILL) // it is fine if there is no such group
}
