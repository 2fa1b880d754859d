package getty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Parent keeps terminals for the next life of the program, which it starts when somebody types on one of them.
type Parent interface {
	Kept(name string) (fd int, ok bool) // ok at the first call for a terminal that an earlier life has left
	Keep(name string, fd int) error
	Drop(name string) error
	Settle() error // returns when the parent has what was left
}

// screenAgain is how often a console of a screen that does not exist looks for one, while another console has a shell.
const screenAgain = 5 * time.Second

var errHungUp = errors.New("console hung up")

// rest knows how many consoles do anything but wait with their terminal left to the parent. When none does, the program
// may end: what is typed from then on is for its next life.
type rest struct {
	mu    sync.Mutex
	awake int
	ended bool
	over  func()
}

func (r *rest) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.awake--; r.awake == 0 {
		r.ended = true
		r.over()
	}
}

// end reports whether the program still runs for this console.
func (r *rest) end() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.awake++
	return !r.ended
}

// kept returns what an earlier life has left of the console.
func (c *console) kept() (*os.File, bool) {
	if c.file != nil || c.Parent == nil {
		return c.file, c.file != nil
	}
	fd, ok := c.Parent.Kept(filepath.Base(c.device))
	if !ok {
		return nil, false
	}
	unix.CloseOnExec(fd)
	_ = unix.SetNonblock(fd, true) // it was left so
	c.file = os.NewFile(uintptr(fd), c.device)
	return c.file, true
}

// terminal returns the terminal for the next shell, when somebody wants one there. It is nil if the program ends first.
func (c *console) terminal(ctx context.Context) (*os.File, error) {
	if c.Placard != nil && onScreen(c.device) && hasScreen(c.Root) {
		c.forget()
		if err := c.Placard(ctx, c.device); err != nil {
			return nil, err
		}
		return openTTY(c.device)
	}
	if c.Parent == nil {
		return openTTY(c.device)
	}
	tty, left := c.kept()
	if !left {
		var err error
		if tty, err = c.invite(); err != nil {
			return nil, err
		}
	}
	c.file = nil
	wanted, err := c.await(ctx, tty, left)
	if err != nil || !wanted {
		return nil, errors.Join(err, tty.Close())
	}
	return tty, nil
}

// forget drops what an earlier life has left.
func (c *console) forget() {
	if tty, left := c.kept(); left {
		tty.Close() // nothing was written to it
		c.drop()
		c.file = nil
	}
}

func (c *console) drop() {
	if err := c.Parent.Drop(filepath.Base(c.device)); err != nil {
		c.log.Warn("parent keeps the console", "error", err)
	}
}

// invite opens the terminal, and says there how to get a shell.
func (c *console) invite() (*os.File, error) {
	tty, err := openTTY(c.device)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(tty, invitation(observe(c.Root, c.device))); err != nil {
		return nil, errors.Join(err, tty.Close())
	}
	return tty, nil
}

// await waits until a line was typed on tty, which the parent has meanwhile: it is left, or becomes so. await reports
// false if the program ends first, or if a screen came that the placard can use.
func (c *console) await(ctx context.Context, tty *os.File, left bool) (wanted bool, err error) {
	if !left {
		err = control(tty, func(fd int) error { return c.Parent.Keep(filepath.Base(c.device), fd) })
		err = errors.Join(err, c.Parent.Settle())
	}
	if err != nil {
		c.log.Warn("console is not left to the parent, getty stays", "error", err)
	}
	ready := false // it is why the parent has started the program
	rests := err == nil && control(tty, func(fd int) error { ready, _ = look(fd); return nil }) == nil && !ready
	if rests {
		c.rest.begin()
	}
	hungUp, err := c.typed(ctx, tty)
	if rests && !c.rest.end() {
		return false, nil
	}
	c.drop()
	switch {
	case err != nil:
		return false, err
	case hungUp:
		return false, errHungUp
	case ctx.Err() != nil || onScreen(c.device) && hasScreen(c.Root):
		return false, nil
	}
	return true, control(tty, skipEmpty)
}

// typed returns when tty has a line, or has hung up; when ctx ends; or when a screen came.
func (c *console) typed(ctx context.Context, tty *os.File) (hungUp bool, err error) {
	raw, err := tty.SyscallConn()
	if err != nil {
		return false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = tty.SetReadDeadline(time.Unix(1, 0)) }) // fails if it is closed
	defer stop()
	for ctx.Err() == nil {
		if c.Placard != nil && onScreen(c.device) {
			if hasScreen(c.Root) {
				return false, nil
			}
			if err := tty.SetReadDeadline(time.Now().Add(screenAgain)); err != nil {
				return false, err
			}
		}
		err = raw.Read(func(fd uintptr) (ready bool) {
			ready, hungUp = look(int(fd))
			return ready
		})
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return hungUp, err
		}
	}
	return false, nil
}

// look reports whether a terminal has a line, or has hung up.
func look(fd int) (ready, hungUp bool) {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, _ := unix.Poll(poll, 0) // it never waits
	return n > 0, poll[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}

// skipEmpty takes a line with nothing in it, which only asks for the shell. Any other line is for the shell.
func skipEmpty(fd int) error {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil || n != 1 {
		return err
	}
	_, err = unix.Read(fd, make([]byte, 1))
	return err
}

// hasScreen reports whether somebody can see a terminal of the screen: there is a framebuffer, or a console that draws
// letters. The kernel has such a terminal without any screen too.
func hasScreen(root string) bool {
	if _, err := os.Stat(filepath.Join(root, "sys/class/graphics/fb0")); err == nil {
		return true
	}
	names, _ := filepath.Glob(filepath.Join(root, "sys/class/vtconsole/*/name")) // fails for a bad pattern only
	for _, path := range names {
		name, err1 := os.ReadFile(path)
		bound, err2 := os.ReadFile(filepath.Join(filepath.Dir(path), "bind"))
		draws := strings.HasPrefix(string(bound), "1") && !strings.Contains(string(name), "dummy")
		if errors.Join(err1, err2) == nil && draws {
			return true
		}
	}
	return false
}

func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	err = raw.Control(func(fd uintptr) { done = do(int(fd)) })
	return errors.Join(err, done)
}

// invitation is the text on a console without a shell.
func invitation(f facts) string {
	return fmt.Sprintf("\n%s\n\nPress Enter for a shell.\n", f.title())
}
