package health

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"
)

// Dir is the directory of the saved states on the device.
const Dir = "/run/resinos/health"

// Subject is a running container with a check.
type Subject struct {
	ID     string
	PID    int // of its first process
	Check  Check
	Frozen bool // it cannot be checked, and keeps its status
}

// Keeper carries out the checks of containers, one at a time for each container. While no check is due it does nothing.
// Any goroutine may call its methods.
type Keeper struct {
	// Begin returns the function that carries out one check of a started container (Runner.Begin).
	Begin func(s Subject) func(context.Context) Result
	// Clear ends the processes that an earlier check of a container left.
	Clear func(id string)
	// Started returns when a process was started; it fails for a process that has ended.
	Started func(pid int) (time.Duration, error)
	// Now is the time since the kernel started.
	Now func() time.Duration
	Dir string // of the states, with which a new manager continues; in RAM
	// Event is called at each change of a status; may be nil.
	Event func(id string, s Status)
	Log   *slog.Logger

	mu      sync.Mutex // guards what follows
	watches map[string]*watch
	// running is closed by the last goroutine of a container when no process of a check is left, and then removed.
	running map[string]chan struct{}
	changed chan struct{}
	all     sync.WaitGroup
}

// watch is the goroutine that checks a container from its start to its end.
type watch struct {
	subject Subject
	state   State
	cancel  context.CancelFunc
}

// Want makes the Keeper check exactly these containers. It does not wait for running checks of others to end.
func (k *Keeper) Want(list []Subject) {
	k.mu.Lock()
	defer k.mu.Unlock()
	wanted := map[string]bool{}
	for _, s := range list {
		wanted[s.ID] = true
		old := k.watches[s.ID]
		if old != nil && reflect.DeepEqual(old.subject, s) {
			continue
		}
		if old != nil {
			old.cancel()
		}
		k.begin(s)
	}
	for id, w := range k.watches {
		if !wanted[id] {
			w.cancel()
			delete(k.watches, id)
			k.forget(id)
		}
	}
}

// begin starts the goroutine of a started container, after the goroutine of its earlier start.
func (k *Keeper) begin(s Subject) {
	started, err := k.Started(s.PID)
	if err != nil { // it has ended, as the next look finds
		delete(k.watches, s.ID)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{subject: s, cancel: cancel}
	w.state = State{Life: fmt.Sprintf("%d %d", s.PID, started), Started: started, Status: Starting}
	if kept, err := load(k.file(s.ID)); err == nil && kept.Life == w.state.Life {
		w.state = kept
	}
	if k.watches == nil {
		k.watches, k.running = map[string]*watch{}, map[string]chan struct{}{}
	}
	before, done, state := k.running[s.ID], make(chan struct{}), w.state
	k.watches[s.ID], k.running[s.ID] = w, done
	k.all.Go(func() {
		if before != nil {
			<-before
		}
		k.watch(ctx, w, state)
		k.mu.Lock()
		defer k.mu.Unlock()
		close(done)
		if k.running[s.ID] == done {
			delete(k.running, s.ID)
		}
	})
}

// watch checks a started container until ctx is done.
func (k *Keeper) watch(ctx context.Context, w *watch, state State) {
	if w.subject.Frozen {
		return
	}
	run := k.Begin(w.subject)
	k.Clear(w.subject.ID) // a killed manager may have left a running check
	for {
		timer := time.NewTimer(state.Due(w.subject.Check) - k.Now())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		r := run(ctx)
		if started, err := k.Started(w.subject.PID); ctx.Err() != nil || err != nil || started != state.Started {
			return // the result means nothing: the container has ended, and the check with it
		}
		was := state.Status
		state = state.Took(w.subject.Check, r)
		k.take(w, state, was)
	}
}

// take publishes a new state.
func (k *Keeper) take(w *watch, state State, was Status) {
	id := w.subject.ID
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.watches[id] != w {
		return
	}
	w.state = state
	if err := save(k.file(id), state); err != nil {
		k.Log.Warn("health not kept", "container", id, "error", err)
	}
	if state.Status == was {
		return
	}
	k.Log.Info("health changed", "container", id, "was", string(was), "now", string(state.Status))
	if k.Event != nil {
		k.Event(id, state.Status)
	}
	select {
	case k.signal() <- struct{}{}:
	default: // a value waits already
	}
}

// State returns the state of a container; false if it is not checked.
func (k *Keeper) State(id string) (State, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.watches[id]
	if w == nil {
		return State{}, false
	}
	return w.state, true
}

// Changed gets a value when a status has changed.
func (k *Keeper) Changed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.signal()
}

func (k *Keeper) signal() chan struct{} {
	if k.changed == nil {
		k.changed = make(chan struct{}, 1)
	}
	return k.changed
}

// Close ends all checks and waits for that. The saved states stay for the next manager.
func (k *Keeper) Close() {
	k.mu.Lock()
	for _, w := range k.watches {
		w.cancel()
	}
	k.watches = nil
	k.mu.Unlock()
	k.all.Wait()
}

func (k *Keeper) file(id string) string { return filepath.Join(k.Dir, id+".json") }

func (k *Keeper) forget(id string) {
	if err := os.Remove(k.file(id)); err != nil && !os.IsNotExist(err) {
		k.Log.Warn("health not forgotten", "container", id, "error", err)
	}
}

// Started reads from /proc when a process was started, since the kernel started. It fails for a process that has ended,
// also for a zombie.
func Started(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStart(string(text))
}

// userHZ is the unit of times in /proc, on all architectures.
const userHZ = 100

// parseStart reads field 22 of /proc/PID/stat. The name of the program, field 2, may contain anything.
func parseStart(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	var ticks int64
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return 0, fmt.Errorf("no process: /proc/PID/stat has %q", fields)
	}
	if _, err := fmt.Sscan(fields[19], &ticks); err != nil {
		return 0, fmt.Errorf("read /proc/PID/stat: %w", err)
	}
	return time.Duration(ticks) * (time.Second / userHZ), nil
}
