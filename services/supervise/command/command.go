// Package command makes the command of a process from the definition of its service: environment, descriptors, console,
// log, and whether the launcher has to confine it first. It starts nothing. Read Maker first.
package command

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/confine"
	"resinos/services/log/pipe"
	"resinos/services/notify"
	"resinos/services/proc"
	"resinos/services/spec"
)

// Maker is what the commands of all services have in common.
type Maker struct {
	Launcher    string // the init binary, which confines itself and becomes the program
	NotifyPath  string // of the readiness socket
	ConsolePath string // the terminal of services with log = "console"
	// Output gives the file for standard output and error of a service, and keeps it. Nil, or an error, is /dev/null.
	Output func(service string) (*os.File, error)
	Log    *slog.Logger
}

// Inherited is what a process gets beyond what its service file says of every process.
type Inherited struct {
	Files    []*os.File // descriptors 3 and on, …
	Names    []string   // … the first of which, one for each name, it knows by LISTEN_FDNAMES
	Watchdog time.Duration
	Notify   bool // it may talk to us
}

// Command makes the command for a process of the service: argv, or the launcher that becomes it
// when something has to be done in the process itself first. It must be followed by closeOurs once
// the process is started.
func (m *Maker) Command(sp *spec.Spec, argv []string, g Inherited) (c proc.Command, closeOurs func(), err error) {
	c = proc.Command{
		Path: argv[0], Args: argv, Dir: sp.WorkingDirectory, OOMScore: sp.OOMScore,
		Env: m.environment(sp, g.Notify), Extra: g.Files,
	}
	l := confine.Launch{
		Command: argv, User: sp.User, Group: sp.Group, Groups: sp.SupplementaryGroups, Confinement: sp.Confinement,
		Listen: len(g.Names), Names: g.Names, Watchdog: g.Watchdog,
	}
	if mayHang(sp.WorkingDirectory) {
		c.Dir, l.Directory = "/", sp.WorkingDirectory
	}
	needed, hangs := l.Needed(), mayHang(argv[0])
	// not worth another execve: without WATCHDOG_PID it is meant for whoever reads it
	if l.Watchdog > 0 && !needed && !hangs {
		c.Env = append(c.Env, "WATCHDOG_USEC="+strconv.FormatInt(l.Watchdog.Microseconds(), 10))
	}
	if needed || hangs {
		text, err := l.Encode()
		if err != nil {
			return c, nil, err
		}
		if !hangs && l.Itself(m.Launcher) {
			c.MountNamespace = l.Confinement.OwnMounts()
		} else {
			c.Path, c.Args = m.Launcher, []string{Launcher}
		}
		c.Env = append(c.Env, confine.Variable+"="+text)
	}
	closeOurs = m.connect(sp, &c)
	if sp.Listen.Each && len(g.Files) > 0 { // for programs that know no other descriptor, as those of inetd
		c.Stdin = g.Files[0]
	}
	return c, closeOurs, nil
}

// ofImage are the directories that the image brings. They are on the disk that we run from, and nothing is mounted
// there.
var ofImage = [...]string{"/usr", "/bin", "/sbin"}

// mayHang reports whether a look at a path may wait for somebody else, as on a network file system whose server is
// gone. A fork waits until the program is executed, and we with it, so the launcher, which is of the image, goes there
// for us.
func mayHang(path string) bool {
	path = filepath.Clean(path)
	if path == "/" || path == "/proc/self/exe" { // ourselves
		return false
	}
	for _, dir := range ofImage {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return false
		}
	}
	return true
}

// connect gives c its three standard descriptors, and returns what closes ours of them.
func (m *Maker) connect(sp *spec.Spec, c *proc.Command) func() {
	if sp.Log == spec.Console {
		console, err := openConsole(m.ConsolePath)
		if err != nil {
			m.Log.Warn("service without console", "service", sp.Name, "error", err)
			return func() {}
		}
		c.Stdin, c.Stdout, c.Stderr = console, console, console
		return func() { console.Close() } // the child has its own by then
	}
	if m.Output != nil {
		out, err := m.Output(sp.Name)
		if err != nil {
			m.Log.Warn("service without log", "service", sp.Name, "error", err)
		} else {
			c.Stdout, c.Stderr = out, out
		}
	}
	return func() {}
}

// openConsole opens a terminal without making it ours and without waiting for a carrier.
func openConsole(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, false) // the child shall block as programs expect
	}
	if err != nil {
		return nil, fmt.Errorf("open console %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func (m *Maker) environment(sp *spec.Spec, talks bool) []string {
	env := []string{"PATH=/usr/sbin:/usr/bin", "HOME=/root"}
	if talks {
		env = append(env, notify.Variable+"="+m.NotifyPath)
	}
	for _, name := range slices.Sorted(maps.Keys(sp.Environment)) {
		prefix := name + "="
		env = slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, prefix) })
		env = append(env, prefix+sp.Environment[name])
	}
	return env
}

// Talks reports whether the main process of a service may send us notifications.
func Talks(sp *spec.Spec) bool {
	return sp.Type == spec.Notify || sp.WatchdogEvery > 0 || sp.FDStore > 0
}

// WritePID tells the log which process writes the lines that come next. It never waits: where the
// pipe is full, or is none, the lines go without.
func WritePID(out *os.File, pid int) {
	if out == nil {
		return
	}
	line := pipe.AppendPID(nil, pid)
	// Not Write: the open file is shared with the process, whose writes shall block and ours never.
	_, _ = unix.Pwritev2(int(out.Fd()), [][]byte{line}, -1, unix.RWF_NOWAIT)
}

// Launcher is the name by which the init binary confines itself and then becomes a service's program.
const Launcher = "launch"
