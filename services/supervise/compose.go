package supervise

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/confine"
	"resinos/services/notify"
	"resinos/services/proc"
	"resinos/services/spec"
)

// inheritedFiles is what a process gets beyond what its service file says of every process.
type inheritedFiles struct {
	files    []*os.File // descriptors 3 and on, …
	names    []string   // … the first of which, one for each name, it knows by LISTEN_FDNAMES
	readyTo  int        // the number at which it wants the last of files, to say that it is ready; 0 is none
	watchdog time.Duration
	notify   bool // it may talk to us
}

// compose makes the command for a process of the service: argv, or the launcher that becomes it
// when something has to be done in the process itself first. It must be followed by let once
// the process is started.
func (s *Supervisor) compose(sp *spec.Spec, argv []string, g inheritedFiles) (c proc.Command, let func(), err error) {
	c = proc.Command{
		Path: argv[0], Args: argv, Dir: sp.WorkingDirectory, OOMScore: sp.OOMScore,
		Env: s.environment(sp, g.notify), Extra: g.files,
	}
	l := confine.Launch{
		Command: argv, User: sp.User, Group: sp.Group, Groups: sp.SupplementaryGroups, Confinement: sp.Confinement,
		Listen: len(g.names), Names: g.names, Watchdog: g.watchdog,
	}
	if mayHang(sp.WorkingDirectory) {
		c.Dir, l.Directory = "/", sp.WorkingDirectory
	}
	if g.readyTo != 0 {
		l.ReadyFrom, l.ReadyTo = 3+len(g.names), g.readyTo
	}
	needed, hangs := l.Needed(), mayHang(argv[0])
	if l.Watchdog > 0 && !needed && !hangs { // not worth another execve: without WATCHDOG_PID it is meant for whoever reads it
		c.Env = append(c.Env, "WATCHDOG_USEC="+strconv.FormatInt(l.Watchdog.Microseconds(), 10))
	}
	if needed || hangs {
		text, err := l.Encode()
		if err != nil {
			return c, nil, err
		}
		if !hangs && l.Itself(s.cfg.Launcher) {
			c.MountNamespace = l.Confinement.OwnMounts()
		} else {
			c.Path, c.Args = s.cfg.Launcher, []string{launcher}
		}
		c.Env = append(c.Env, confine.Variable+"="+text)
	}
	return c, s.connect(sp, &c), nil
}

// ofImage are the directories that the image brings. They are on the disk that we run from, and nothing is mounted there.
var ofImage = [...]string{"/usr", "/bin", "/sbin"}

// mayHang reports whether a look at a path may wait for somebody else, as on a network file system whose server is gone. A fork waits until the
// program is executed, and we with it, so the launcher, which is of the image, goes there for us.
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
func (s *Supervisor) connect(sp *spec.Spec, c *proc.Command) func() {
	if sp.Log == spec.Console {
		console, err := openConsole(s.cfg.ConsolePath)
		if err != nil {
			s.log.Warn("service without console", "service", sp.Name, "error", err)
			return func() {}
		}
		c.Stdin, c.Stdout, c.Stderr = console, console, console
		return func() { console.Close() } // the child has its own by then
	}
	if s.cfg.Output != nil {
		out, err := s.cfg.Output(sp.Name)
		if err != nil {
			s.log.Warn("service without log", "service", sp.Name, "error", err)
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

func (s *Supervisor) environment(sp *spec.Spec, talks bool) []string {
	env := []string{"PATH=/usr/sbin:/usr/bin", "HOME=/root"}
	if talks {
		env = append(env, notify.Variable+"="+s.cfg.NotifyPath)
	}
	for _, name := range slices.Sorted(maps.Keys(sp.Environment)) {
		prefix := name + "="
		env = slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, prefix) })
		env = append(env, prefix+sp.Environment[name])
	}
	return env
}

// talks reports whether the main process of a service may send us notifications.
func talks(sp *spec.Spec) bool {
	return sp.Type == spec.Notify || sp.WatchdogEvery > 0 || sp.FDStore > 0
}
