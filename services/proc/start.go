package proc

import (
	"fmt"
	"os"
	"syscall"

	"resinos/services/fault"
)

// Start runs c and returns once its program has been executed (an unreadable or missing program is an error of Start,
// not an exit later). The child has descriptors 0, 1, 2 and Extra and no others, an empty signal mask and default
// dispositions (the Go runtime resets the ones it handles, exec keeps only ignored ones, and this process ignores
// none).
//
// The OOM score is set on this process for the moment of the fork and restored afterwards: the child inherits it, so
// neither the child nor a grandchild ever has another one. Writing it after the fork would be too late, because the
// fork returns only when the program already runs. The OOM killer never selects PID 1, whatever its score is, so the
// moment does no harm.
func (r *Reaper) Start(c Command) (*Process, error) {
	args := c.Args
	if len(args) == 0 {
		args = []string{c.Path}
	}
	p := &Process{reaper: r, done: make(chan Status, 1), onExit: c.OnExit}

	r.mu.Lock()
	defer r.mu.Unlock()
	attr, err := r.attributes(&c)
	if err != nil {
		return nil, err
	}
	p.Degraded = r.oom.Set(c.OOMScore)
	if err = fault.Call("fork"); err == nil {
		p.Pid, err = syscall.ForkExec(c.Path, args, attr)
	}
	r.oom.Restore()
	if err != nil {
		return nil, fmt.Errorf("execute %s: %w", c.Path, err)
	}
	r.live[p.Pid] = p
	return p, nil
}

// attributes converts the Command for the syscall package. The lock is held.
func (r *Reaper) attributes(c *Command) (*syscall.ProcAttr, error) {
	attr := &syscall.ProcAttr{Dir: c.Dir, Env: c.Env, Sys: &syscall.SysProcAttr{
		Setsid:     !c.SameSession,
		Credential: c.Credential,
	}}
	if attr.Env == nil {
		attr.Env = []string{} // nil would be our own environment
	}
	if attr.Dir == "" {
		attr.Dir = "/"
	}
	attr.Files = make([]uintptr, 0, 3+len(c.Extra))
	for _, f := range [...]*os.File{c.Stdin, c.Stdout, c.Stderr} {
		if f == nil {
			if err := r.openNull(); err != nil {
				return nil, fmt.Errorf("open standard files: %w", err)
			}
			f = r.null
		}
		attr.Files = append(attr.Files, f.Fd())
	}
	for _, f := range c.Extra {
		attr.Files = append(attr.Files, f.Fd())
	}
	if c.MountNamespace {
		attr.Sys.Cloneflags |= syscall.CLONE_NEWNS
	}
	if c.Cgroup != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(c.Cgroup.Fd())
	}
	return attr, nil
}

// openNull opens /dev/null at the first use and keeps it, because nearly every program has it as its standard input.
func (r *Reaper) openNull() (err error) {
	if err := fault.Call("open null"); err != nil {
		return err
	}
	if r.null == nil {
		r.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0)
	}
	return err
}
