package load

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/confine"
	"resinos/services/spec"
)

const (
	// patience bounds the life of a program: a large app takes a tenth of a second on a small device.
	patience = 60 * time.Second
	// maxOutput bounds what a program says in all.
	maxOutput = 4 << 20
	// maxMemory bounds its heap and stacks. The address space that the Go runtime only reserves does not count.
	maxMemory = 160 << 20
	// maxProcessor bounds its processor time, in seconds.
	maxProcessor = 30
)

// Message is one line of the program: a file that it asks for, or what it has come to.
type Message struct {
	Read string  `json:",omitempty"`
	Done *Result `json:",omitempty"`
}

// Reply is the answer to Read.
type Reply struct {
	Content []byte `json:",omitempty"`
	Absent  bool   `json:",omitempty"`
	Error   string `json:",omitempty"`
}

// run starts the program once.
func (l *Loader) run(ctx context.Context, name, dir string) (Result, error) {
	limit := cmp.Or(l.limit, patience)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %v: shorten the files", limit))
	defer cancel()
	cmd, err := l.command(ctx, name, dir)
	if err != nil {
		return Result{}, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return Result{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return Result{}, err
	}
	said := &tail{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return Result{}, cmp.Or(context.Cause(ctx), err)
	}
	r, err := serve(dir, json.NewDecoder(io.LimitReader(out, maxOutput)), json.NewEncoder(in))
	cancelled := context.Cause(ctx)
	if err != nil {
		_ = cmd.Process.Kill() // it has ended, or it is of no use any more
	}
	ended := errors.Join(in.Close(), cmd.Wait())
	switch {
	case errors.Is(err, ErrBusy):
		return Result{}, err
	case cancelled != nil:
		return Result{}, cancelled
	case err != nil:
		return Result{}, fmt.Errorf("%w%s", explain(err, cmd.ProcessState), said)
	case ended != nil:
		return Result{}, fmt.Errorf("%w%s", ended, said)
	}
	return r, r.check(name)
}

// explain says what became of a program that ended before it was done.
func explain(err error, state *os.ProcessState) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.EPIPE) {
		return err
	}
	status, _ := state.Sys().(syscall.WaitStatus)
	if status.Signaled() && (status.Signal() == unix.SIGXCPU || status.Signal() == unix.SIGKILL) ||
		status.ExitStatus() == 2 {
		return fmt.Errorf("the program was ended (%v): the app is too large for it, shorten the compose file", state)
	}
	return fmt.Errorf("the program ended early (%v)", state)
}

// command is the program with nothing of the device but its two pipes: namespaces, limits, and from then on it takes
// the rest from itself (containers/compose).
func (l *Loader) command(ctx context.Context, name, dir string) (*exec.Cmd, error) {
	orders, err := confine.Launch{Command: []string{"/proc/self/exe"}, Confinement: spec.Confinement{
		Bounded: true, NoNewPrivileges: true, Seccomp: "daemon",
		Rlimits: map[string]spec.Rlimit{
			"data": {Soft: maxMemory, Hard: maxMemory}, "cpu": {Soft: maxProcessor, Hard: maxProcessor},
			"fsize": {Soft: maxOutput, Hard: maxOutput}, "nofile": {Soft: 64, Hard: 64}, "core": {},
		}}}.Encode()
	if err != nil {
		return nil, err
	}
	cmd, err := l.Program.Command(ctx, "-app", name, "-dir", filepath.Clean(dir))
	if err != nil {
		return nil, err
	}
	cmd.Env = []string{confine.Variable + "=" + orders, "GOMEMLIMIT=96MiB", "GOMAXPROCS=2"}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID |
			unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	}
	return cmd, nil
}

// serve answers the program until it is done.
func serve(dir string, in *json.Decoder, out *json.Encoder) (Result, error) {
	r := Reader{Open: func(name string) ([]byte, Source, error) { return readSource(dir, name) }}
	for {
		var m Message
		if err := in.Decode(&m); err != nil {
			return Result{}, err
		}
		if m.Done != nil {
			m.Done.Sources = r.Sources
			return *m.Done, nil
		}
		data, err := r.Read(m.Read)
		if r.Refused != nil {
			return Result{}, r.Refused
		}
		reply := Reply{Content: data, Absent: errors.Is(err, fs.ErrNotExist)}
		if err != nil && !reply.Absent {
			reply.Error = err.Error()
		}
		if err := out.Encode(reply); err != nil {
			return Result{}, err
		}
	}
}

// tail keeps the end of what a program said on its standard error.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	const limit = 1024
	if t.text = append(t.text, p...); len(t.text) > limit {
		t.text = t.text[:limit]
	}
	return len(p), nil
}

func (t *tail) String() string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(t.text), []byte("\n"))
	if len(line) == 0 {
		return ""
	}
	return ": " + strings.ToValidUTF8(string(line), "?")
}
