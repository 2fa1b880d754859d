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

// Runner carries checks out inside their containers, each in a control group of its own below the container's, so that
// all its processes can be found and ended, whatever they are children of.
type Runner struct {
	Runtime string // path of the OCI runtime
	// Describe says how the runtime runs a program in a container: its arguments, the last of which is the container,
	// and what it reads from descriptor 3.
	Describe func(ctx context.Context, id string, args []string) (command []string, process []byte, err error)

	root string
	// groups has the containers' control groups by name, nil on a host without cgroup v2, which no device is: there a
	// check runs in the group of its container, and only its first process is ended.
	groups *cgroup.Tree
}

// Open finds the control groups of containers, below root.
func (r *Runner) Open(root string) (err error) {
	r.root = filepath.Join("/sys/fs/cgroup", root)
	r.groups, err = cgroup.Open(r.root)
	if errors.Is(err, cgroup.ErrNoCgroup2) {
		r.groups, err = nil, nil
	}
	return err
}

const (
	// groupName is the group of a check, below that of its container.
	groupName = "health"
	// endWait bounds the wait for the kernel to end killed processes. A check is not begun while some are left.
	endWait = 2 * time.Second
)

// Begin returns what carries out one check of a container, in this life of it. That returns when no process of the
// check is left, soon after its context is done.
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

// describe asks the engine, once for each life of a container.
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
		// A new group for each check: the kernel kills what is started in one that was killed before.
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
	defer description.Close() // nothing that counts was written
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
	p.Clear(id)                                       // what it left behind holds the pipe
	_ = read.SetReadDeadline(time.Now().Add(endWait)) // a pipe can have one
	output = <-text
	var exited *exec.ExitError
	if errors.As(err, &exited) {
		err = nil
	}
	return cmd.ProcessState.ExitCode(), output, err
}

// first reads the beginning of an output, which is kept, and the rest, so that its writer is not held up.
func first(r io.Reader) string {
	kept, _ := io.ReadAll(io.LimitReader(r, maxOutput+1)) // what came before an error is the output
	_, _ = io.Copy(io.Discard, r)
	return string(kept)
}

// memory is a file with text that has no name.
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
		_ = r.groups.Kill(groupOf(id)) // it may have gone with its container
	}
}

// newGroup creates the group of a check, below that of the container, which has one while it runs.
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

// Clear ends the processes of a container's check and waits for that. Without any there is nothing to do.
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

// awaitEmpty waits until no process is in the group: the kernel tells, as an event of the file.
func (r *Runner) awaitEmpty(id string) {
	events, err := os.Open(filepath.Join(r.root, groupOf(id), "cgroup.events"))
	if err != nil {
		return // it is gone
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
		_, _ = unix.Poll(fds, int(left.Milliseconds())+1) // an interrupted one looks again
	}
}
