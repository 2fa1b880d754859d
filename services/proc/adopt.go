package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Adopt takes charge of a process that Start did not start: a child of an earlier life of this process, or one that a
// service names as its main process. Its end is reported as that of a started one, also if it is dead already and only
// waits to be reaped. The error is os.ErrProcessDone if there is no such process any more. birth is its StartTime as
// the caller remembers it, because the number may have been reused; 0 means any.
//
// A process that is still the child of another process is watched too. If it ends before its parent does, its parent
// gets its status, and ours is Unknown.
func (r *Reaper) Adopt(pid int, birth uint64, onExit func(Status)) (*Process, error) {
	p := &Process{Pid: pid, reaper: r, done: make(chan Status, 1), onExit: onExit}
	r.mu.Lock() // nobody reaps meanwhile, so a dead child and its number stay
	defer r.mu.Unlock()
	if r.live[pid] != nil {
		return nil, fmt.Errorf("adopt pid %d: %w", pid, os.ErrExist)
	}
	if pid <= 1 {
		return nil, fmt.Errorf("adopt pid %d: %w", pid, os.ErrInvalid)
	}
	watch, err := r.look(pid, birth)
	if err != nil {
		return nil, fmt.Errorf("adopt pid %d: %w", pid, err)
	}
	r.live[pid] = p
	if watch == nil {
		r.nudge() // it may be dead
		return p, nil
	}
	go r.follow(p, watch)
	return p, nil
}

// look finds out whose child the process is. If it is not ours, it returns a descriptor that becomes readable at its
// end.
func (r *Reaper) look(pid int, birth uint64) (watch *os.File, err error) {
	// A child with a known birth needs no descriptor: its number is not reused before we reap it, and is not the number
	// of a thread, which did not start at that moment. After a re-exec this is done for every service.
	if birth != 0 {
		if s, err := readStat(pid); err == nil && s.started == birth && s.parent == os.Getpid() {
			return nil, nil
		}
	}
	// Before reading /proc, because the process behind the descriptor can no longer change.
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) { // EINVAL: a thread's number
		return nil, os.ErrProcessDone
	}
	if err != nil {
		return nil, err
	}
	s, err := readStat(pid)
	ours := err == nil && s.parent == os.Getpid()
	if err != nil || s.dead && !ours || birth != 0 && s.started != birth {
		unix.Close(fd)
		return nil, os.ErrProcessDone
	}
	if ours {
		unix.Close(fd)
		return nil, nil
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// follow waits for the end of a process with another parent. It ends with the process.
func (r *Reaper) follow(p *Process, watch *os.File) {
	defer watch.Close()
	if raw, err := watch.SyscallConn(); err == nil {
		// The poller wakes us when the descriptor becomes readable, at the end of the process.
		_ = raw.Read(func(fd uintptr) bool {
			set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(set, 0)
			return n > 0 || err != nil && err != unix.EINTR
		})
	}
	r.mu.Lock()
	if s, err := readStat(p.Pid); r.live[p.Pid] != p || err == nil && s.parent == os.Getpid() {
		r.mu.Unlock()
		r.nudge() // it became our child: its status can be reaped, or was
		return
	}
	status := Status{Pid: p.Pid, Unknown: true}
	delete(r.live, p.Pid)
	p.done <- status // capacity 1 and sent once: never blocks
	r.mu.Unlock()
	if p.onExit != nil {
		p.onExit(status)
	}
}

// Nudge makes Run do a round and waits for it: a watchdog can so see progress when no process ends.
func (r *Reaper) Nudge(ctx context.Context) error {
	made := make(chan struct{})
	select {
	case r.asked <- made:
	case <-ctx.Done():
		return fmt.Errorf("nudge reaper: %w", context.Cause(ctx))
	}
	select {
	case <-made:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("nudge reaper: %w", context.Cause(ctx))
	}
}

// nudge requests a round without waiting. The lock may be held.
func (r *Reaper) nudge() {
	select {
	case r.again <- struct{}{}:
	default: // requested already
	}
}

// StartTime returns when the process was started, in clock ticks since kernel start. Together with the pid it
// identifies one process for ever. It fails with os.ErrProcessDone if there is no such process.
func StartTime(pid int) (uint64, error) {
	s, err := readStat(pid)
	if err != nil {
		return 0, fmt.Errorf("read start time of pid %d: %w", pid, err)
	}
	return s.started, nil
}

// Session returns the session of a process, or 0 if it is not known.
func Session(pid int) int {
	s, err := readStat(pid)
	if err != nil {
		return 0
	}
	return s.session
}

// stat is the part of /proc/PID/stat that we need.
type stat struct {
	dead    bool // waits to be reaped
	parent  int
	session int
	started uint64
}

// readStat reads with three system calls: os.ReadFile makes twice as many, and after a re-exec this is done for every
// service.
func readStat(pid int) (stat, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return stat{}, os.ErrProcessDone
	}
	if err != nil {
		return stat{}, err
	}
	defer unix.Close(fd) // nothing was written
	var text [1024]byte  // the line has some 350 bytes at most: proc_pid_stat(5)
	n, err := unix.Read(fd, text[:])
	if err == unix.ESRCH {
		return stat{}, os.ErrProcessDone
	}
	if err != nil {
		return stat{}, err
	}
	return parseStat(string(text[:n]))
}

// parseStat parses "pid (name) state ppid pgrp session … starttime …", proc_pid_stat(5). The name may contain anything,
// also brackets.
func parseStat(text string) (stat, error) {
	const state, parent, session, started = 0, 1, 3, 19 // counted after the name
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) <= started {
		return stat{}, fmt.Errorf("parse stat: %d fields, want %d", len(fields), started+1)
	}
	ppid, err1 := strconv.Atoi(fields[parent])
	sid, err2 := strconv.Atoi(fields[session])
	since, err3 := strconv.ParseUint(fields[started], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return stat{}, fmt.Errorf("parse stat: %w", err)
	}
	return stat{dead: fields[state] == "Z" || fields[state] == "X", parent: ppid, session: sid, started: since}, nil
}
