package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Guest is one running QEMU. It ends when the guest powers off, at Kill, when the context of Start is done, and with
// the program that started it.
type Guest struct {
	options Options
	dir     string // private directory; removed when done is closed
	console *Console
	monitor *Monitor
	process *exec.Cmd
	talk    *tail         // the output of QEMU itself
	done    chan struct{} // closed by live when the process is reaped and the directory removed
	err     error         // how it ended; read after done
}

// greetTimeout limits the time in which QEMU must open its images and its monitor.
const greetTimeout = 30 * time.Second

// tailLines is the number of console lines that errors quote.
const tailLines = 20

// Start runs QEMU and returns once its monitor answers, so that a missing program, an image in use or a port in use are
// errors of Start. The caller must wait for the guest's end with Wait.
func Start(ctx context.Context, o Options) (*Guest, error) {
	dir, err := os.MkdirTemp("", "resinos-qemu-")
	if err != nil {
		return nil, fmt.Errorf("create directory for QEMU: %w", err)
	}
	g, err := start(ctx, o, dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return g, nil
}

func start(ctx context.Context, o Options, dir string) (*Guest, error) {
	plan, err := Plan(o, dir)
	if err != nil {
		return nil, err
	}
	if err := prepare(ctx, o, dir); err != nil {
		return nil, err
	}
	g := &Guest{options: o, dir: dir, talk: &tail{}, done: make(chan struct{})}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	err = g.spawn(ctx, plan, theirs)
	_ = theirs.Close() // QEMU has its own; with ours open the monitor would not notice QEMU's end
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	greet, cancel := context.WithTimeoutCause(ctx, greetTimeout, errors.New("QEMU does not answer"))
	defer cancel()
	if g.monitor, err = newMonitor(greet, ours); err != nil {
		return nil, g.stillborn(err)
	}
	if o.Log != nil {
		o.Log.Info("qemu started", "board", o.Board.Name, "pid", g.process.Process.Pid, "image", o.Image)
	}
	return g, nil
}

// stillborn kills a process that did not answer, and returns the reason that QEMU printed, if any.
func (g *Guest) stillborn(cause error) error {
	_ = g.process.Process.Kill() // fails only if it has ended
	<-g.done
	if said := g.talk.String(); said != "" {
		return explain(g.options, said)
	}
	return fmt.Errorf("start %s: %w", g.process.Path, cause)
}

// prepare creates the files that the command line names.
func prepare(ctx context.Context, o Options, dir string) error {
	if o.Image != "" {
		if _, err := os.Stat(o.Image); err != nil {
			return fmt.Errorf("open image: %w", err)
		}
	}
	if o.Overlay != "" {
		if err := Overlay(ctx, o.Image, o.Format, o.Overlay); err != nil {
			return err
		}
	}
	if o.WriteLog != "" {
		if err := os.WriteFile(o.WriteLog, nil, 0o600); err != nil { // QEMU does not create it
			return fmt.Errorf("create write log: %w", err)
		}
	}
	for _, f := range o.Firmware {
		if f.Kind != "pflash-vars" {
			continue
		}
		vars, err := os.ReadFile(f.Path)
		if err != nil {
			return fmt.Errorf("read firmware variables: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, varsFile), vars, 0o600); err != nil {
			return fmt.Errorf("copy firmware variables: %w", err)
		}
	}
	return nil
}

// Overlay creates the qcow2 file over an image (format as in Options), for writes that must not change the image.
func Overlay(ctx context.Context, image, format, overlay string) error {
	base, err := filepath.Abs(image) // a relative path would be relative to the overlay
	if err != nil {
		return fmt.Errorf("find image %s: %w", image, err)
	}
	if format == "" {
		format = "raw"
	}
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", format, "-b", base,
		overlay).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return missing("qemu-img")
	}
	if err != nil {
		return fmt.Errorf("create overlay %s: %w: %s", overlay, err, bytes.TrimSpace(out))
	}
	return nil
}

// socketPair returns our end and the one that QEMU inherits. No path or port is needed.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("create monitor socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "qmp"), os.NewFile(uintptr(fds[1]), "qmp")
	defer ours.Close() // FileConn duplicates it
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("create monitor socket: %w", err), theirs.Close())
	}
	return conn, theirs, nil
}

// spawn starts the process on a thread of its own that lives as long as the process: the kernel sends the parent-death
// signal when the thread that forked ends (prctl(2)), not the process.
func (g *Guest) spawn(ctx context.Context, plan Command, monitor *os.File) error {
	cmd := exec.CommandContext(ctx, plan.Program, plan.Arguments...)
	// A process group of its own keeps Ctrl-C in our terminal from QEMU.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.ExtraFiles = []*os.File{monitor}
	cmd.Stderr = g.talk
	cmd.WaitDelay = 5 * time.Second
	input, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", plan.Program, err)
	}
	g.console = newConsole(input)
	cmd.Stdout = g.console
	g.process = cmd
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			g.live(input)
		}
	}()
	err = <-started
	if errors.Is(err, exec.ErrNotFound) {
		return missing(plan.Program)
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", plan.Program, err)
	}
	return nil
}

func (g *Guest) live(input io.Closer) {
	defer close(g.done)
	g.err = g.process.Wait()
	_ = input.Close() // Wait may have closed it
	g.console.finish()
	g.err = errors.Join(g.err, os.RemoveAll(g.dir))
}

// Console returns the serial console.
func (g *Guest) Console() *Console { return g.console }

// QMP returns the connection to QEMU's monitor.
func (g *Guest) QMP() *Monitor { return g.monitor }

// PID returns the process id of QEMU.
func (g *Guest) PID() int { return g.process.Process.Pid }

// SSHAddress returns the address of the guest's ssh on this host; it is empty with a tap link or without a port.
func (g *Guest) SSHAddress() string {
	if g.options.Network.SSHPort == 0 {
		return ""
	}
	return fmt.Sprintf("127.0.0.1:%d", g.options.Network.SSHPort)
}

// Done is closed when QEMU has ended.
func (g *Guest) Done() <-chan struct{} { return g.done }

// Wait returns when QEMU has ended: nil if the guest powered off or QEMU was asked to quit, else an error with the last
// console lines. If ctx is done first, the guest continues and the error wraps the cause of ctx.
func (g *Guest) Wait(ctx context.Context) error {
	select {
	case <-g.done:
	case <-ctx.Done():
		return fmt.Errorf("wait for the guest's end: %w", context.Cause(ctx))
	}
	_ = g.monitor.Close() // QEMU closed its end
	if g.err == nil {
		return nil
	}
	if said := g.talk.String(); said != "" {
		return fmt.Errorf("%w\n%s", explain(g.options, said), g.LastLines())
	}
	return fmt.Errorf("run %s: %w\n%s", g.process.Path, g.err, g.LastLines())
}

// Kill ends QEMU at once, as a power cut would, and returns when it has ended. It may be called twice.
func (g *Guest) Kill() {
	_ = g.process.Process.Kill() // fails only if it has ended
	<-g.done
	_ = g.monitor.Close()
}

// LastLines returns the end of the console for an error message.
func (g *Guest) LastLines() string {
	return "last console lines:\n  | " + strings.Join(g.console.Tail(tailLines), "\n  | ")
}

// A tail keeps the last few kilobytes that were written to it.
type tail struct {
	mu   sync.Mutex // guards text
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-8192):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
