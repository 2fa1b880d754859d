package hooks

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"resinos/mounts/attach"
	"resinos/services/boottime"
	"resinos/services/cgroup"
)

// Limit is how long a script may run, as with NetworkManager.
const Limit = 10 * time.Minute

// Runner runs the scripts of events, one event after the other. Ready for use with Dir and Log set.
type Runner struct {
	Dir   string
	Limit time.Duration // for one script; 0: Limit
	// Groups has a cgroup for each script, so that what it starts ends with it, whatever it does; nil: only its process
	// group is killed.
	Groups *cgroup.Tree
	Log    *slog.Logger

	started atomic.Int64

	background sync.WaitGroup // scripts that nobody waits for
	running    atomic.Int64   // how many of them
}

// mostOutput is how many bytes of the output of one script go to the log.
const mostOutput = 64 << 10

// Run runs the scripts of an event and waits for them, except for those that say otherwise. Their faults are logged.
func (r *Runner) Run(ctx context.Context, e Event) {
	scripts, refused := Scripts(r.Dir, e.Action)
	for _, err := range refused {
		r.Log.Warn("hook refused", "error", err)
	}
	if len(scripts) == 0 {
		return
	}
	env := Environment(e, time.Now().Add(-boottime.Now()))
	link := e.Link.Name
	if e.Action == HostRename {
		link = "none"
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Persistent directories are attached with noexec. The thread is never unlocked: its mount namespace ends then.
		runtime.LockOSThread()
		if err := attach.AllowExec(r.Dir); err != nil {
			r.Log.Warn("hooks not run", "error", err)
			return
		}
		for _, s := range scripts {
			end, err := r.start(ctx, s, link, e.Action, env)
			switch {
			case err != nil:
				r.Log.Warn("hook failed", "path", s.Path, "action", string(e.Action), "link", link, "error", err)
			case s.NoWait:
				r.running.Add(1)
				r.background.Go(func() { defer r.running.Add(-1); end() })
			default:
				end()
			}
		}
	}()
	<-done
}

// Wait waits for the scripts that nobody waited for.
func (r *Runner) Wait() { r.background.Wait() }

// Busy reports whether some of these still run.
func (r *Runner) Busy() bool { return r.running.Load() > 0 }

// start starts a script in a process group of its own. end waits for it, kills what is left when its time is over, and
// logs how it ended.
func (r *Runner) start(ctx context.Context, s Script, link string, a Action, env []string) (end func(), err error) {
	limit := r.Limit
	if limit == 0 {
		limit = Limit
	}
	log := r.Log.With("path", s.Path, "action", string(a), "link", link)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("still running after %v", limit))
	out := &lines{log: log}
	cmd := exec.CommandContext(ctx, s.Path, link, string(a))
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", env, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	group, dir := r.group(cmd)
	kill := func() error {
		if group != "" {
			_ = r.Groups.Kill(group) // the process group is killed at least
		}
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	cmd.Cancel = kill
	cmd.WaitDelay = time.Second // what it left running must not hold its output open for us
	began := boottime.Now()
	err = cmd.Start()
	if dir != nil {
		dir.Close() // the script is in it
	}
	if err != nil {
		cancel()
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%w: the script or its interpreter is missing; production images have no shell", err)
		}
		return nil, err
	}
	return func() {
		defer cancel()
		err := cmd.Wait()
		_ = kill() // what it left running; mostly nothing
		if group != "" {
			_ = r.Groups.Remove(group) // what has not died yet is removed with the tree
		}
		out.flush()
		took := (boottime.Now() - began).Round(time.Millisecond)
		switch {
		case ctx.Err() != nil:
			log.Warn("hook killed", "took", took, "error", context.Cause(ctx))
		case err != nil && !errors.Is(err, exec.ErrWaitDelay):
			log.Warn("hook failed", "took", took, "error", err)
		default:
			log.Info("hook done", "took", took)
		}
	}, nil
}

// group has the command start in a cgroup of its own, which dir keeps open until then; nil: there are none.
func (r *Runner) group(cmd *exec.Cmd) (name string, dir *os.File) {
	if r.Groups == nil {
		return "", nil
	}
	name = fmt.Sprintf("hook-%d-%d", os.Getpid(), r.started.Add(1))
	dir, err := r.Groups.Join(name)
	if err != nil {
		r.Log.Warn("no cgroup for a hook", "error", err)
		return "", nil
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	return name, dir
}

// lines passes what a script writes to the log, line by line.
type lines struct {
	log  *slog.Logger
	mu   sync.Mutex // guards what follows
	rest []byte
	size int
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := p[:min(len(p), max(mostOutput-l.size, 0))]
	l.size += len(p)
	l.rest = append(l.rest, kept...)
	reader := bufio.NewReader(strings.NewReader(string(l.rest)))
	l.rest = l.rest[:0]
	for {
		text, err := reader.ReadString('\n')
		if errors.Is(err, io.EOF) {
			l.rest = append(l.rest, text...)
			return len(p), nil
		}
		l.say(text)
	}
}

func (l *lines) say(text string) {
	if text = strings.TrimSpace(strings.ToValidUTF8(text, "?")); text != "" {
		l.log.Info("hook says", "message", text)
	}
}

// flush logs the last line if it has no end, and says what was left out.
func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.say(string(l.rest))
	l.rest = nil
	if l.size > mostOutput {
		l.log.Warn("output of a hook cut", "bytes", l.size, "limit", mostOutput)
	}
}
