package demand

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"resinos/services/hold"
	"resinos/services/spec"
)

// backlog is the number of connections that wait in the kernel while a service starts.
const backlog = 128

// network is the parameters of socket(2) for a word of a service file.
type network struct {
	unix    bool
	kind    int
	listens bool // it receives connections, not datagrams
}

var networks = map[string]network{
	"tcp":        {kind: unix.SOCK_STREAM, listens: true},
	"udp":        {kind: unix.SOCK_DGRAM},
	"unix":       {unix: true, kind: unix.SOCK_STREAM, listens: true},
	"unixpacket": {unix: true, kind: unix.SOCK_SEQPACKET, listens: true},
	"unixgram":   {unix: true, kind: unix.SOCK_DGRAM},
	"netlink":    {kind: unix.SOCK_DGRAM},
}

// Open creates the sockets of a service in the order of l.Sockets, all or none. Each is closed on exec, unknown to Go's
// poller (hold.File), named as in the service file, and blocking, as programs expect of an inherited socket; Accept
// handles that itself. A Unix socket on which nobody listens any more is replaced; anything else at its path is an
// error. The caller owns the files: see Close.
func Open(l spec.Listen, service string) ([]*os.File, error) {
	var files []*os.File
	for _, s := range l.Sockets {
		f, err := open(s, l)
		if err != nil {
			Close(l, files)
			return nil, fmt.Errorf("listen for %s on %s:%s: %w", service, s.Network, s.Address, err)
		}
		files = append(files, f)
	}
	return files, nil
}

// Close closes sockets of Open and removes the paths of Unix sockets. A service that still runs keeps its own
// descriptors of them.
func Close(l spec.Listen, files []*os.File) {
	for _, f := range files {
		path := bound(f)
		named := func(s spec.Socket) bool { return networks[s.Network].unix && s.Address == path }
		if path != "" && slices.ContainsFunc(l.Sockets, named) && isSocket(path) {
			os.Remove(path) // the next Open replaces a path that is left
		}
		f.Close() // nothing is buffered
	}
}

func open(s spec.Socket, l spec.Listen) (*os.File, error) {
	n, ok := networks[s.Network]
	if !ok {
		return nil, errors.New("no such network")
	}
	bind := bindInternet
	switch {
	case n.unix:
		bind = func(s spec.Socket, n network) (int, error) { return bindUnix(s.Address, n, l) }
	case s.Network == "netlink":
		bind = bindUevents
	}
	fd, err := bind(s, n)
	if err != nil {
		return nil, err
	}
	return hold.File(fd, s.Network+":"+s.Address)
}

// bindInternet creates a tcp or udp socket. All addresses means both families on one socket, if the kernel has both.
func bindInternet(s spec.Socket, n network) (int, error) {
	at, err := parseAddress(s.Address)
	if err != nil {
		return -1, err
	}
	fd, err := bindAt(at, n)
	if err != nil && at.all && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
		return bindAt(at.only4(), n)
	}
	return fd, err
}

func bindAt(at address, n network) (int, error) {
	fd, err := unix.Socket(at.family(), n.kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := at.prepare(fd, n); err != nil {
		unix.Close(fd) // the first error says more
		return -1, err
	}
	return fd, nil
}

func (a address) prepare(fd int, n network) error {
	set := func(level, option, value int) error {
		return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, option, value))
	}
	var errs []error
	if n.listens {
		// Lingering connections of the last life must not block the port. Never for datagrams: there the option would
		// let any other process take the port over.
		errs = append(errs, set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	}
	if a.family() == unix.AF_INET6 && a.all {
		errs = append(errs, set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0))
	}
	if !a.all {
		// The link may get this address later than PID 1 opens the socket.
		errs = append(errs, set(unix.SOL_IP, unix.IP_FREEBIND, 1))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	to, err := a.sockaddr()
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, to); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if n.listens {
		return os.NewSyscallError("listen", unix.Listen(fd, backlog))
	}
	return nil
}

func bindUnix(path string, n network, l spec.Listen) (int, error) {
	if !filepath.IsAbs(path) {
		return -1, errors.New("no absolute path")
	}
	who, err := findOwner(l.User, l.Group)
	if err != nil {
		return -1, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return -1, err
	}
	if err := makeRoom(path, n); err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, n.kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := bindPath(fd, path, n, l.Mode, who); err != nil {
		unix.Close(fd) // the first error says more
		return -1, err
	}
	return fd, nil
}

// bindPath binds fd to path. Until mode and owner are set only root can connect: the path is created with the mode of
// the descriptor (unix_bind_bsd in the kernel).
func bindPath(fd int, path string, n network, mode uint32, who owner) error {
	if err := unix.Fchmod(fd, 0); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	err := os.Lchown(path, who.uid, who.gid)
	if err == nil {
		err = os.Chmod(path, fs.FileMode(mode&0o777))
	}
	if err == nil && n.listens {
		err = os.NewSyscallError("listen", unix.Listen(fd, backlog))
	}
	if err != nil {
		os.Remove(path) // it was just created; the first error says more
	}
	return err
}

// makeRoom removes a socket on which nobody listens any more.
func makeRoom(path string, n network) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("something that is no socket is in its place")
	}
	fd, err := unix.Socket(unix.AF_UNIX, n.kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	// Refused means a socket without an owner: a full backlog is EAGAIN, a live socket of another kind EPROTOTYPE.
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("somebody listens there: %w", unix.EADDRINUSE)
	}
	return os.Remove(path)
}

// bound returns the path to which a Unix socket is bound; empty for any other socket.
func bound(f *os.File) string {
	var at unix.Sockaddr
	err := control(f, func(fd int) (err error) {
		at, err = unix.Getsockname(fd)
		return err
	})
	if u, ok := at.(*unix.SockaddrUnix); ok && err == nil {
		return u.Name
	}
	return ""
}

func isSocket(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().Type() == fs.ModeSocket
}

// control calls do with f's descriptor, which stays open meanwhile.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	if err := raw.Control(func(fd uintptr) { done = do(int(fd)) }); err != nil {
		return err
	}
	return done
}
