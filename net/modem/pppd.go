package modem

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/net/cellular"
	"resinos/net/modemstate"
)

// hookName is the name under which pppd starts Hook when a connection is up.
const hookName = "pppup"

// hook writes what pppd says of a connection into a file of the directory. pppd calls it with the link, the serial
// line, its rate, the two addresses and a parameter.
func hook(directory string, args []string, getenv func(string) string) error {
	if len(args) < 5 {
		return errors.New("pppd gives five arguments")
	}
	b := modemstate.Bearer{Link: args[0], Given: true}
	address, err := netip.ParseAddr(args[3])
	if err != nil {
		return err
	}
	b.Address = netip.PrefixFrom(address, address.BitLen())
	for _, name := range []string{"DNS1", "DNS2"} {
		if server, err := netip.ParseAddr(getenv(name)); err == nil && cellular.Usable(server) &&
			!slices.Contains(b.Servers, server) {
			b.Servers = append(b.Servers, server)
		}
	}
	return modemstate.Write(directory, upFile(filepath.Base(args[1])), b)
}

// upFile is the file that the hook writes for a serial line.
func upFile(line string) string { return "up-" + line }

// pppd is one life of the program. A nil one does not run.
type pppd struct {
	line      string // the serial line: a file in /dev
	directory string
	packed    string
	hook      string
	log       *slog.Logger

	cmd   *exec.Cmd
	ended chan struct{}
	once  sync.Once
	told  atomic.Bool // to end, by us
	said  string      // its last message
}

// options returns the file of options for one connection. It is the only place that has the password.
func (p *pppd) options(profile modemstate.Profile) string {
	var b strings.Builder
	fmt.Fprintf(&b, "user %s\npassword %s\n", quote(profile.User), quote(profile.Password))
	fmt.Fprintf(&b, "ip-up-script %s\n", quote(p.hook))
	// The address is the network's; the default route and resolv.conf are netd's. The modem compresses, if anybody
	// does.
	b.WriteString("nodetach\nlocal\nnoauth\nnodefaultroute\nnoipdefault\nusepeerdns\nnoccp\nnovj\nnoipv6\n" +
		"ipcp-accept-local\nipcp-accept-remote\nlcp-echo-interval 20\nlcp-echo-failure 4\nmaxfail 1\n")
	return b.String()
}

// quote writes a word of pppd's options files: nothing in it has a meaning of its own.
func quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(text) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_./@", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\%03o`, c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// start starts pppd on its serial line.
func (p *pppd) start(profile modemstate.Profile) error {
	file := filepath.Join(p.directory, "ppp-"+p.line)
	if err := os.WriteFile(file, []byte(p.options(profile)), 0o600); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(p.directory, upFile(p.line))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := loadPPP(); err != nil {
		return err
	}
	p.cmd = exec.Command(filepath.Join(p.packed, "pppd"), "/dev/"+p.line, "115200", "file", file)
	p.cmd.Env = []string{"LD_LIBRARY_PATH=" + p.packed, "OPENSSL_MODULES=" + filepath.Join(p.packed, "ossl-modules")}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	p.cmd.Stderr = p.cmd.Stdout
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.log.Info("pppd started", "device", p.line, "pid", p.cmd.Process.Pid)
	p.ended = make(chan struct{})
	go func() { // ends with pppd
		defer close(p.ended)
		p.said = relay(out, p.log, "pppd")
		_ = p.cmd.Wait() // ProcessState says the same
		p.log.Info("pppd ended", "device", p.line, "status", p.cmd.ProcessState.String())
		_ = os.Remove(file)
	}()
	return nil
}

// relay logs the lines of a program and returns the last one.
func relay(r io.Reader, log *slog.Logger, program string) string {
	last := ""
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if text := cellular.Printable(lines.Text()); text != "" {
			last = text
			log.Info("program says", "source", program, "message", text)
		}
	}
	_, _ = io.Copy(io.Discard, r) // a line that is too long ends the scanner, not the program
	return last
}

// disciplinePPP is the kernel's number of PPP as a use of a serial line (N_PPP of linux/tty.h).
const disciplinePPP = 3

// loadPPP has the kernel load its modules for PPP: it does so when a serial line, which may be a terminal of ours, is
// told to speak PPP. Before that there is no /dev/ppp, without which pppd ends.
func loadPPP() error {
	if _, err := os.Stat("/dev/ppp"); err == nil {
		return nil
	}
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer f.Close() // it was only asked
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.TIOCSETD, disciplinePPP); err != nil {
		return fmt.Errorf("load the kernel's modules for PPP: %w", err)
	}
	return nil
}

// running reports whether pppd runs.
func (p *pppd) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// end ends pppd and waits for it.
func (p *pppd) end() {
	if p == nil {
		return
	}
	p.once.Do(func() {
		p.told.Store(true)
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	})
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// why says why pppd has ended, of the table in pppd(8); empty: because it was told to.
func (p *pppd) why() string {
	if p.told.Load() {
		return ""
	}
	switch p.cmd.ProcessState.ExitCode() {
	case 0, 5:
		return ""
	case 10:
		return "the network does not speak PPP"
	case 15:
		return "the network does not answer any more"
	case 16:
		return "the modem has hung up"
	case 19:
		return "the network refuses user name or password"
	}
	return "pppd has ended: " + p.said
}

// follow waits for the end of pppd.
func (d *driver) follow(ctx context.Context, u *unit, p *pppd) {
	select {
	case <-p.ended:
	case <-ctx.Done():
		p.end()
		return
	}
	d.within(ctx, func() {
		if u.ppp != p {
			return
		}
		u.bearer = modemstate.Bearer{}
		if why := p.why(); why != "" {
			u.failed(why)
		}
	})
}

// up takes over what the hook has written about a connection.
func (u *unit) up() error {
	if !u.ppp.running() || u.bearer.Link != "" {
		return nil
	}
	var b modemstate.Bearer
	there, err := modemstate.Read(u.ppp.directory, upFile(u.ppp.line), &b)
	if there {
		u.bearer = b
	}
	return err
}

// within has run's goroutine do something.
func (d *driver) within(ctx context.Context, do func()) {
	select {
	case d.done <- do:
	case <-ctx.Done():
	}
}

// manager runs ModemManager until ctx ends. It speaks to nobody but us.
func (d *driver) manager(ctx context.Context, socket string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(d.packed, "ModemManager"), "--test-no-udev", "--no-auto-scan",
		"--test-no-suspend-resume", "--test-no-qrtr", "--filter-policy=STRICT", "--log-level=WARN",
		"--test-plugin-dir="+filepath.Join(d.packed, "plugins"))
	cmd.Env = []string{"LD_LIBRARY_PATH=" + d.packed, "DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + socket,
		"GIO_USE_VFS=local", "GIO_MODULE_DIR=/nonexistent"}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return err
	}
	said := relay(out, d.log, "ModemManager")
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("ModemManager: %w; it said last: %s", err, said)
	}
	return errors.New("ModemManager has ended")
}
