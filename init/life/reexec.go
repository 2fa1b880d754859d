package life

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/init/ahead"
	"resinos/init/handover"
	"resinos/init/lastboot"
	"resinos/init/shutdown"
	"resinos/init/walk"
	"resinos/services/bootreport"
	"resinos/services/boottime"
	"resinos/services/pid1"
)

// cpuTime is the processor time of this process in all its lives.
func cpuTime() time.Duration {
	var used unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &used) // cannot fail with a valid pointer
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

const (
	maxLives    = 16               // kept in the report
	maxReason   = 500              // bytes of a reason
	panicWindow = 60 * time.Second // in which
	maxPanics   = 5                // re-execs after a panic are tried
)

// tooMany reports whether PID 1 has re-executed after panics too often. A re-exec does not cure a fault that returns at
// once; a reboot may, and the bootloader counts it as a failed try of this slot.
func tooMany(lives []bootreport.Life, now time.Duration) bool {
	recent := 0
	for _, l := range lives {
		if l.Panic && bootreport.Seconds(now)-l.At <= panicWindow.Seconds() {
			recent++
		}
	}
	return recent >= maxPanics
}

// freezePatience is the time that the supervisor has to stop between two inputs.
const freezePatience = time.Second

// caught handles a panic in any goroutine of PID 1; the guard calls it. It does not return.
func (p *PID1) caught(name string, cause any, stack []byte) {
	defer p.lastResort() // for a panic in this function
	if !p.leaving.TryLock() {
		select {} // another goroutine re-executes PID 1 already: the exec ends this one
	}
	reason := shorten(fmt.Sprintf("panic in %s: %v", name, cause))
	if p.kernel != nil { // for pstore, and in case logd does not run
		fmt.Fprintf(p.kernel, "<3>pid 1: %s\n", reason)
	}
	p.log.Error("panic in pid 1", "daemon", name, "error", fmt.Sprint(cause))
	lines := strings.Split(strings.TrimSpace(string(stack)), "\n")
	for _, line := range lines[:min(len(lines), 40)] {
		p.log.Error(strings.TrimSpace(line)) // the log takes single lines
	}
	if p.supervisor == nil {
		panic(reason) // nothing is to be saved yet, so a reboot loses nothing
	}
	if tooMany(p.record.Report().Lives, boottime.Now()) {
		p.abandon(reason + fmt.Sprintf("; more than %d panics within %v", maxPanics, panicWindow))
	}
	p.replace(bootreport.Life{Reason: reason, Panic: true})
}

func shorten(reason string) string { return reason[:min(len(reason), maxReason)] }

// abandon reboots the device in order and keeps the reason for the next boot. It does not return.
func (p *PID1) abandon(reason string) {
	p.log.Error("pid 1 gives up: rebooting", "error", reason)
	p.lastShutdown(reason).Run()
}

// lastShutdown is the shutdown of a life that cannot continue. It does not wait for a supervisor that is frozen or has
// panicked, because such a supervisor never ends: no service is stopped in order.
func (p *PID1) lastShutdown(reason string) *shutdown.Shutdown {
	cfg := p.shutdownConfig(request{action: pid1.Reboot, why: reason, failed: true})
	cfg.Ended = p.supervised
	return p.beginShutdown(shutdown.New(cfg))
}

// reexec re-executes PID 1 on request. It returns only if a re-exec is running already.
func (p *PID1) reexec(reason string) {
	if !p.leaving.TryLock() {
		return
	}
	p.replace(bootreport.Life{Reason: shorten(reason)})
}

// replace saves the state and executes the next life. It does not return: if it fails for good, the device reboots.
func (p *PID1) replace(life bootreport.Life) {
	from := boottime.Now()
	cpu := cpuTime()
	life.At = bootreport.Seconds(from)
	p.freeze(life)
	var err error
	// A lack of memory passes; a broken program does not.
	for try := range 10 {
		if try > 0 {
			time.Sleep(100 * time.Millisecond) // sleep: nothing reports when memory is free again
		}
		if err = p.execute(life, from, cpu); err == nil || errors.Is(err, errNoFork) {
			break
		}
		p.log.Error("pid 1 cannot be executed", "error", err)
	}
	p.abandon(fmt.Sprintf("re-exec: %v", err))
}

// freeze stops the supervisor, unless the supervisor has panicked, and then the reaper: the next life reaps the
// processes that die from then on.
func (p *PID1) freeze(life bootreport.Life) {
	p.freezeSupervisor(life)
	p.stopReaper()
	limit := time.NewTimer(freezePatience)
	defer limit.Stop()
	select {
	case <-p.reaped:
	case <-limit.C:
		p.log.Error("reaper did not stop")
	}
}

func (p *PID1) freezeSupervisor(life bootreport.Life) {
	ctx, cancel := context.WithTimeout(context.Background(), freezePatience)
	defer cancel()
	if life.Panic && strings.HasPrefix(life.Reason, "panic in "+nameSupervisor+":") {
		return
	}
	if err := walk.Shielded(func() error { return p.supervisor.Freeze(ctx) }); err != nil {
		p.log.Error("supervisor did not stop", "error", err)
		return
	}
	select {
	case <-p.supervised:
	case <-ctx.Done():
		p.log.Error("supervisor did not stop", "error", context.Cause(ctx))
	}
}

var errNoFork = errors.New("a fork under way does not end")

// execute takes a snapshot and executes the next life. Nobody may fork meanwhile: the child would be in no snapshot,
// and would inherit the descriptors for the next life.
func (p *PID1) execute(life bootreport.Life, from, cpu time.Duration) error {
	for try := 0; !syscall.ForkLock.TryLock(); try++ {
		if try == 1000 {
			return errNoFork
		}
		time.Sleep(time.Millisecond) // sleep: a lock that must not be waited for
	}
	defer syscall.ForkLock.Unlock()
	s, err := p.snapshot(life, from, cpu)
	if err != nil {
		return err
	}
	file, err := s.Encode()
	if err != nil {
		return err
	}
	defer file.Close() // the exec failed
	return s.Execute(file)
}

// snapshot returns the state of PID 1; from and cpu are the time and the processor time at the end of this life. If the
// supervisor cannot save its state, the snapshot lacks it, and the next life starts all services again.
func (p *PID1) snapshot(life bootreport.Life, from, cpu time.Duration) (*handover.State, error) {
	s := &handover.State{Now: from, CPU: cpu, Report: p.record.Report(), Inputs: p.system.Inputs,
		Marking: p.system.Marking.Under()}
	s.Report.Reexecs++
	s.Report.Lives = append(s.Report.Lives, life)
	s.Report.Lives = s.Report.Lives[max(0, len(s.Report.Lives)-maxLives):]
	if d := p.goingDown(); d != nil {
		saved := d.Save()
		s.Down = &saved
	}
	var faults []error
	err := walk.Shielded(func() error {
		text, files, err := p.supervisor.Save()
		if err != nil {
			return err
		}
		for _, f := range files {
			faults = append(faults, s.Add(handover.Supervisor, "", f))
		}
		s.Supervisor = text
		return nil
	})
	if err != nil {
		p.log.Error("state of the services is lost", "error", err)
	}
	if p.socket != nil {
		faults = append(faults, s.Add(handover.Control, "", p.socket))
	}
	if p.system.Watchdog != nil {
		faults = append(faults, s.Add(handover.Watchdog, "", p.system.Watchdog.File()))
	}
	if p.system.Pipe != nil {
		faults = append(faults, s.Add(handover.Log, "", p.system.Pipe))
	}
	for name, f := range p.kept.all() {
		faults = append(faults, s.Add(handover.Pipe, name, f))
	}
	return s, errors.Join(faults...)
}

// resume restores the snapshot of the earlier life.
func (p *PID1) resume(s *handover.State) {
	ahead.Resume()
	p.record = bootreport.New(s.Report)
	p.system = p.newSystem(s.Inputs)
	if pipe := s.File(handover.Log); pipe != nil {
		p.system.ResumeLog(pipe)
	}
	if s.Marking { // the exec ended the writing of the marker; to write it twice does no harm
		p.system.Marking.Begin(lastboot.MarkerFile, p.log)
	}
	if f := s.File(handover.Watchdog); f != nil {
		p.system.ResumeWatchdog(f)
	}
	p.socket = s.File(handover.Control)
	files, names := s.Files(handover.Pipe)
	for i, f := range files {
		p.kept.open[names[i]] = f
	}
}

// resumed logs the re-exec, once everything runs again.
func (p *PID1) resumed(s *handover.State) {
	took := boottime.Now() - s.Now
	life, count := p.record.Resumed(took, cpuTime()-s.CPU)
	level := slog.LevelInfo
	if life.Panic {
		level = slog.LevelError
	}
	p.log.Log(context.Background(), level, "pid 1 re-executed", "reason", life.Reason, "count", count, "took", took)
}
