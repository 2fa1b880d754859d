package proc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/fault"
	"resinos/services/oomscore"
)

// sweepEvery is the period of the reaping without a signal: SIGCHLD coalesces, and a lost one would leave a service
// dead for ever.
const sweepEvery = 30 * time.Second

// tryAgain is the pause after a wait that failed.
const tryAgain = 100 * time.Millisecond

// Reaper is the only owner of the children of this process. A process must have only one.
//
// It loses no exit for two reasons. The lock is held across fork and registration, and across wait4 and look-up, so an
// exit can neither come before its process is known nor be matched with a pid that was reused. And each process has its
// own channel of capacity one, so neither a slow reader nor many orphans at once can displace an exit.
type Reaper struct {
	mu       sync.Mutex // guards live, onOrphan, oom, null and every fork and wait
	live     map[int]*Process
	onOrphan func(Status)
	oom      oomscore.Loan
	null     *os.File // /dev/null, opened at the first use

	reaped atomic.Uint64      // processes, for tests
	again  chan struct{}      // contains one token while a round is requested
	asked  chan chan struct{} // rounds that somebody waits for
}

// NewReaper returns a reaper that knows no process. It can fork at once, but notices exits only while Run runs. It
// marks the descriptors above 2 that this process inherited close-on-exec, so that no child inherits them; what Go
// opens is marked anyway.
func NewReaper() *Reaper {
	// Linux 5.11. If it fails, children inherit a few more descriptors.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	return &Reaper{live: map[int]*Process{}, again: make(chan struct{}, 1), asked: make(chan chan struct{})}
}

// Run reaps until ctx is cancelled, and returns its cause. Children that end later are reaped by
// the next Run. The caller must be the only one that waits for children in this process.
func (r *Reaper) Run(ctx context.Context) error {
	died := make(chan os.Signal, 1) // one is enough: a drain reaps everything that died before
	signal.Notify(died, syscall.SIGCHLD)
	defer signal.Stop(died)
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	var made chan struct{} // closed after the requested round
	for {
		fault.Point("reaper.round")
		r.drain()
		if made != nil {
			close(made)
			made = nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-died:
		case <-sweep.C:
		case <-r.again:
		case made = <-r.asked:
		}
	}
}

// OnOrphan makes the reaper call hook for every process reaped from now on that was neither started nor adopted: for
// PID 1 these are the daemons and leftovers of services. It is called from Run's goroutine, must not block and must not
// call the Reaper. Nil removes the hook.
func (r *Reaper) OnOrphan(hook func(Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onOrphan = hook
}

// drain reaps every dead child. It releases the lock between two of them, so that many deaths do not delay a fork.
func (r *Reaper) drain() {
	for {
		status, tell, ok := r.next()
		if !ok {
			return
		}
		r.reaped.Add(1)
		if tell != nil {
			tell(status)
		}
	}
}

// next reaps one dead child and returns whom to inform.
func (r *Reaper) next() (status Status, tell func(Status), ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ws syscall.WaitStatus
	for {
		var pid int
		err := fault.Call("wait4")
		if err == nil {
			pid, err = syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		}
		if err == syscall.EINTR {
			continue
		}
		if err != nil && err != syscall.ECHILD {
			time.AfterFunc(tryAgain, r.nudge) // for example out of memory: a dead process stays dead
		}
		if err != nil || pid <= 0 { // ECHILD: no children; 0: none is dead
			return Status{}, nil, false
		}
		status = Status{Pid: pid, Wait: ws}
		p := r.live[pid]
		if p == nil {
			return status, r.onOrphan, true
		}
		delete(r.live, pid)
		p.done <- status // capacity 1 and sent once: never blocks
		return status, p.onExit, true
	}
}

func (r *Reaper) signal(p *Process, to int, sig syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live[p.Pid] != p {
		return os.ErrProcessDone
	}
	if err := syscall.Kill(to, sig); err != nil {
		return fmt.Errorf("signal pid %d: %w", p.Pid, err)
	}
	return nil
}

// Do starts c, waits for its end and returns how it ended. If ctx is cancelled first, it kills the process and still
// waits for its end. Run must be running.
func (r *Reaper) Do(ctx context.Context, c Command) (Status, error) {
	p, err := r.Start(c)
	if err != nil {
		return Status{}, err
	}
	select {
	case s := <-p.Done():
		return s, nil
	case <-ctx.Done():
	}
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return Status{}, err
	}
	return <-p.Done(), context.Cause(ctx)
}
