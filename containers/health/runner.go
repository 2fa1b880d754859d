package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/boottime"
	"resinos/services/cgroup"
)

// Runner carries out checks inside their containers, each in a cgroup of its own below the container's, so that it can
// kill all processes of the check, whatever their parents are.
type Runner struct {
	Runtime string // path of the OCI runtime
	// Describe returns how the runtime runs a program in a container: its arguments, the last of which is the
	// container, and the description that it reads from descriptor 3.
	Describe func(ctx context.Context, id string, args []string) (command []string, process []byte, err error)

	root string
	// groups finds the cgroups of containers by name. It is nil on a host without cgroup v2, which no device is: there
	// a check runs in the cgroup of its container, and only its first process is killed.
	groups *cgroup.Tree
}

// Open opens the cgroups of containers, below root.
func (r *Runner) Open(root string) (err error) {
	r.root = filepath.Join("/sys/fs/cgroup", root)
	r.groups, err = cgroup.Open(r.root)
	if errors.Is(err, cgroup.ErrNoCgroup2) {
		r.groups, err = nil, nil
	}
	return err
}

const (
	// groupName is the cgroup of a check, below that of its container.
	groupName = "health"
	// endWait limits the wait for the end of killed processes. No check begins while some are left.
	endWait = 2 * time.Second
)

// Begin returns the function that carries out one check of a started container. The function returns when no process of
// the check is left, soon after its context is done.
func (r *Runner) Begin(s Subject) func(context.Context) Result {
	p := &program{Runner: r, subject: s}
	return func(ctx context.Context) Result {
		result := Result{Start: boottime.Now()}
		limited, cancel := context.WithTimeout(ctx, s.Check.Timeout)
		defer cancel()
		exit, output, err := p.run(limited)
		switch {
		case limited.Err() != nil && !errors.Is(err, errNotBegun):
			exit = failed
			text := fmt.Sprintf("Health check exceeded timeout (%v)", s.Check.Timeout)
			output = strings.TrimSuffix(text+": "+output, ": ")
		case err != nil:
			exit, output = failed, err.Error()
		}
		result.Exit, result.Output, result.End = exit, output, boottime.Now()
		return result
	}
}

// program is how the check of a container is run.
type program struct {
	*Runner
	subject Subject
	args    []string
	process []byte
}

var errNotBegun = errors.New("check not begun")

// describe asks the engine, once for each start of a container.
func (p *program) describe(ctx context.Context) (err error) {
	if p.process == nil {
		p.args, p.process, err = p.Describe(ctx, p.subject.ID, p.subject.Check.Args)
	}
	return err
}

func (p *program) run(ctx context.Context) (exit int, output string, err error) {
	id := p.subject.ID
	if err := p.describe(ctx); err != nil {
		return 0, "", fmt.Errorf("%w: %w", errNotBegun, err)
	}
	args := p.args
	if p.groups != nil {
		// Each check gets a new cgroup: the kernel kills a process that is started in a cgroup that was killed before.
		p.Clear(id)
		if err := p.newGroup(id); err != nil {
			return 0, "", fmt.Errorf("%w: %w", errNotBegun, err)
		}
		args = slices.Insert(slices.Clone(args), len(args)-1, "--cgroup="+groupName)
	}
	defer p.Clear(id)
	description, err := memory("process.json", p.process)
	if err != nil {
		return 0, "", fmt.Errorf("%w: %w", errNotBegun, err)
	}
	defer description.Close() // the content is in memory only
	read, write, err := os.Pipe()
	if err != nil {
		return 0, "", fmt.Errorf("%w: %w", errNotBegun, err)
	}
	defer read.Close() // only read
	cmd := exec.CommandContext(ctx, p.Runtime, args...)
	cmd.ExtraFiles = []*os.File{description} // becomes descriptor 3
	cmd.Stdout, cmd.Stderr = write, write
	// The runtime waits for the check and ends with it. If it does not, Wait kills it after WaitDelay.
	cmd.WaitDelay = endWait
	cmd.Cancel = func() error {
		if p.groups == nil {
			return cmd.Process.Kill()
		}
		p.kill(id)
		return nil
	}
	err = cmd.Start()
	write.Close() // the check has its own
	if err != nil {
		return 0, "", fmt.Errorf("%w: %w", errNotBegun, err)
	}
	text := make(chan string, 1)
	go func() { text <- first(read) }()
	err = cmd.Wait()
	p.Clear(id)                                       // processes that the check has left hold the pipe open
	_ = read.SetReadDeadline(time.Now().Add(endWait)) // a pipe supports a deadline
	output = <-text
	var exited *exec.ExitError
	if errors.As(err, &exited) {
		err = nil
	}
	return cmd.ProcessState.ExitCode(), output, err
}

// first returns the beginning of an output. It reads the rest too, so that the writer does not block.
func first(r io.Reader) string {
	kept, _ := io.ReadAll(io.LimitReader(r, maxOutput+1)) // the bytes before an error are the output
	_, _ = io.Copy(io.Discard, r)
	return string(kept)
}

// memory returns an unnamed file in memory with this text.
func memory(name string, text []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("describe program: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(text); err != nil {
		f.Close()
		return nil, fmt.Errorf("describe program: %w", err)
	}
	return f, nil
}

func groupOf(id string) string { return filepath.Join(id, groupName) }

func (r *Runner) kill(id string) {
	if r.groups != nil {
		_ = r.groups.Kill(groupOf(id)) // it may be gone with its container
	}
}

// newGroup creates the cgroup of a check, below that of the running container.
func (r *Runner) newGroup(id string) error {
	dir := filepath.Join(r.root, groupOf(id))
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("processes of the last one are left: remove cgroup %s: %w", dir, err)
	}
	if err := unix.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("create cgroup %s: %w", dir, err)
	}
	return nil
}

// Clear kills the processes of a container's check and waits for their end. Without any it does nothing.
func (r *Runner) Clear(id string) {
	if r.groups == nil {
		return
	}
	if populated, err := r.groups.Populated(groupOf(id)); err == nil && !populated {
		return
	}
	r.kill(id)
	r.awaitEmpty(id)
}

// awaitEmpty waits until no process is in the cgroup, which the kernel reports as an event of a file.
func (r *Runner) awaitEmpty(id string) {
	events, err := os.Open(filepath.Join(r.root, groupOf(id), "cgroup.events"))
	if err != nil {
		return // the cgroup is gone
	}
	defer events.Close() // only read
	text := make([]byte, 256)
	for end := time.Now().Add(endWait); ; {
		n, err := events.ReadAt(text, 0)
		left := time.Until(end)
		if err != nil && !errors.Is(err, io.EOF) || !strings.Contains(string(text[:n]), "populated 1") || left <= 0 {
			return
		}
		fds := []unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}
		_, _ = unix.Poll(fds, int(left.Milliseconds())+1) // after an interruption the loop looks again
	}
}
