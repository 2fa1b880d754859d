// Package getty owns the serial console and the screen of development images: a banner, and a root shell on each.
//
// One process serves all consoles. A console invites to press Enter, has a shell then, and invites again when the shell
// has ended. While all consoles wait, Run leaves them with its parent and ends. It asks for no password: production
// images do not have the service. It does not change the kernel's messages and knows nothing of ssh. Read Config first.
package getty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/init/ownaddress"
	"resinos/init/splash/framebuffer"
	"resinos/mounts/dirwatch"
	"resinos/services/notify"
	"resinos/services/oomscore"
)

const (
	// shortLife is the lifetime below which something is wrong with a shell or its console; the next attempt then
	// waits.
	shortLife = 500 * time.Millisecond
	// retryWait is that wait, and the one after a console could not be opened.
	retryWait = 3 * time.Second
	// hangupWait is the time between SIGHUP and SIGKILL at the end.
	hangupWait = 2 * time.Second
	// networkState is the directory where netd replaces files when the device gets an address, below the root.
	networkState = "run/resinos"
	// lookAgain is the time after which a console looks for an address that no file told of.
	lookAgain = 30 * time.Second
	// other is how long an address of IPv6 waits for one of IPv4, which takes longer and is easier to type.
	other = 10 * time.Second
)

// Config says which consoles get which shell. Zero fields mean the values of the device.
type Config struct {
	Devices []string // paths; default: the consoles that the kernel writes to
	Shell   []string // default: /bin/sh -l
	Root    string   // root directory with /etc and /sys, for tests; default: /
	Log     *slog.Logger
	// Placard shows something on a terminal of the screen until a key is pressed; nil: that is a console as any other.
	Placard func(ctx context.Context, device string) error
	// Parent keeps the terminals of consoles that wait for Enter; nil: there is a shell at once, and Run never rests.
	Parent Parent
}

// Run serves all consoles until ctx is done, and then hangs up; or until all of them wait and their terminals are left
// with cfg.Parent. It fails at once if there is no console.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Root == "" {
		cfg.Root = "/"
	}
	if len(cfg.Shell) == 0 {
		cfg.Shell = []string{"/bin/sh", "-l"}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Devices) == 0 {
		active, err := os.ReadFile(filepath.Join(cfg.Root, "sys/class/tty/console/active"))
		if err != nil {
			return fmt.Errorf("find consoles: %w", err)
		}
		if cfg.Devices = parseActive(string(active)); len(cfg.Devices) == 0 {
			return errors.New("find consoles: the kernel has none with a keyboard")
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rest := &rest{awake: len(cfg.Devices), over: cancel}
	var wg sync.WaitGroup
	for _, device := range cfg.Devices {
		c := &console{Config: cfg, device: device, log: cfg.Log.With("path", device), rest: rest}
		wg.Go(func() { c.run(ctx) })
	}
	if err := notify.Ready(); err != nil {
		cfg.Log.Warn("readiness not reported", "error", err)
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	// The consoles wait for people for any time, so the watchdog can only cover that the process runs.
	for alive := notify.Watched(); ; {
		alive.Beat()
		select {
		case <-ended:
			return nil
		case <-time.After(alive.Left()):
		}
	}
}

// parseActive turns the kernel's list of consoles into paths. tty0 is the screen in front; the shell uses the first
// one. A console without input is left out.
func parseActive(active string) []string {
	var list []string
	for _, name := range strings.Fields(active) {
		switch {
		case name == "tty0":
			name = "tty1"
		case name == "ttynull" || strings.ContainsAny(name, "/."):
			continue
		}
		list = append(list, "/dev/"+name)
	}
	return list
}

// console is one terminal and the shells on it.
type console struct {
	Config
	device string
	log    *slog.Logger
	rest   *rest
	file   *os.File  // what an earlier life has left
	began  time.Time // when the latest shell was wanted; zero: the latest session had none
	broken bool      // the last attempt failed, and that was logged
}

func (c *console) run(ctx context.Context) {
	if _, kept := c.kept(); !kept {
		if err := framebuffer.Release(c.device); err != nil { // the splash has it
			c.log.Warn("console shows no text", "error", err)
		}
	}
	for ctx.Err() == nil {
		err := c.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !c.broken {
			c.log.Warn("console has no shell", "error", err)
		}
		if c.broken = err != nil; !c.broken && time.Since(c.began) > shortLife {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryWait):
		}
	}
}

// session runs one shell from its banner to its end. It does not report how the shell ended.
func (c *console) session(ctx context.Context) error {
	c.began = time.Time{}
	tty, err := c.terminal(ctx)
	if err != nil || tty == nil {
		return err
	}
	defer tty.Close()
	c.began = time.Now()
	found := observe(c.Root, c.device)
	if _, err := io.WriteString(tty, banner(found)); err != nil {
		return err
	}
	if err := control(tty, func(fd int) error { return unix.SetNonblock(fd, false) }); err != nil {
		return err
	}
	if len(found.addresses) == 0 {
		ctx, ended := context.WithCancel(ctx)
		defer ended()
		go c.tell(ctx, tty)
	}
	cmd := exec.CommandContext(ctx, c.Shell[0], c.Shell[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.Env = environment(c.device)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGHUP) }
	cmd.WaitDelay = hangupWait
	// The kernel does not choose getty when memory runs out, but may choose what a person starts there.
	if err := oomscore.Born(0, cmd.Start); err != nil {
		return err
	}
	err = cmd.Wait()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return nil
	}
	return err
}

// tell completes the banner when the device gets its first addresses: a shell can be there before the network. It ends
// with ctx, or when it has written.
func (c *console) tell(ctx context.Context, tty io.Writer) {
	watch, err := dirwatch.Open(filepath.Join(c.Root, networkState), unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE, c.log)
	if err != nil {
		c.log.Warn("first address not shown", "error", err)
		return
	}
	defer watch.Close() // nothing is written
	var first time.Time // when there was an address
	for {
		addresses, pause := ownaddress.Read(), lookAgain
		if len(addresses) > 0 {
			if first.IsZero() {
				first = time.Now()
			}
			pause = other - time.Since(first)
		}
		if pause <= 0 || len(addresses) > 0 && addresses[0].Is4() {
			// A terminal that is gone ends the shell, too.
			_, _ = io.WriteString(tty, "\n\n"+reached(addresses)+"\n")
			return
		}
		if watch.Wait(ctx, pause) != nil {
			return
		}
	}
}

// onScreen reports whether a terminal is one of the screen: tty1, not ttyS0.
func onScreen(device string) bool {
	name := filepath.Base(device)
	return strings.HasPrefix(name, "tty") && len(name) > 3 && name[3] >= '0' && name[3] <= '9'
}

func environment(device string) []string {
	term := "vt220" // every program for serial terminals knows it
	if onScreen(device) {
		term = "linux"
	}
	return []string{
		"TERM=" + term, "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh",
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
	}
}

// openTTY opens a terminal, not blocking and without making it the controlling one, and puts it into the state that a
// shell expects: the last shell may have died in raw mode.
func openTTY(path string) (*os.File, error) {
	// O_NONBLOCK: otherwise a serial line waits for its carrier until CLOCAL is set.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open console", Path: path, Err: err}
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		sane(t)
		err = unix.IoctlSetTermios(fd, unix.TCSETS, t)
	}
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "set up console", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// sane sets what "stty sane" sets, except the line speed, which the kernel has set.
func sane(t *unix.Termios) {
	t.Iflag = unix.ICRNL | unix.IXON | unix.IUTF8 | unix.BRKINT
	t.Oflag = unix.OPOST | unix.ONLCR
	t.Cflag |= unix.CREAD | unix.CLOCAL
	t.Lflag = unix.ISIG | unix.ICANON | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE | unix.IEXTEN
	t.Cc = [len(t.Cc)]uint8{
		unix.VINTR: 3, unix.VQUIT: 28, unix.VERASE: 127, unix.VKILL: 21, unix.VEOF: 4, unix.VMIN: 1,
		unix.VSTART: 17, unix.VSTOP: 19, unix.VSUSP: 26, unix.VREPRINT: 18, unix.VWERASE: 23, unix.VLNEXT: 22,
	}
}
