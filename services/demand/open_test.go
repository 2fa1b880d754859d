package demand

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/services/spec"
)

// TestOpened: what a service finds about each kind of socket.
func TestOpened(t *testing.T) {
	for name, l := range kinds(t) {
		t.Run(name, func(t *testing.T) {
			f := opened(t, l)[0]
			if want := l.Sockets[0].String(); f.Name() != want {
				t.Errorf("name is %q, want %q", f.Name(), want)
			}
			if err := f.SetDeadline(time.Time{}); !errors.Is(err, os.ErrNoDeadline) {
				t.Errorf("Go's poller knows it: %v", err)
			}
			flags, err1 := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
			closes, err2 := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
			listens, err3 := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
			if err := errors.Join(err1, err2, err3); err != nil || flags&unix.O_NONBLOCK != 0 ||
				closes&unix.FD_CLOEXEC == 0 {
				t.Errorf("flags %#x, %#x, %v", flags, closes, err)
			}
			if want := networks[l.Sockets[0].Network].listens; (listens == 1) != want {
				t.Errorf("listens is %d, want %v", listens, want)
			}
		})
	}
}

func TestBothFamilies(t *testing.T) {
	f := opened(t, listenOn("tcp", ":0"))[0]
	at, err := unix.Getsockname(int(f.Fd()))
	must(t, err)
	a, ok := at.(*unix.SockaddrInet6)
	if !ok {
		testenv.Lacking(t, "IPv6: bound to %+v", at) // the other family has been opened instead
	}
	for family, to := range map[int]unix.Sockaddr{
		unix.AF_INET:  &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte{127, 0, 0, 1}},
		unix.AF_INET6: &unix.SockaddrInet6{Port: a.Port, Addr: [16]byte{15: 1}},
	} {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		if err := unix.Connect(fd, to); err != nil {
			t.Errorf("connect to %+v: %v", to, err)
		}
		unix.Close(fd)
	}
}

// TestAddressToCome: PID 1 listens before a link has its address.
func TestAddressToCome(t *testing.T) {
	opened(t, listenOn("tcp", "192.0.2.7:0"))
	opened(t, listenOn("udp", "[2001:db8::7]:0"))
}

// TestAllOrNothing: a fault at one of the sockets leaves none, and says which.
func TestAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/file", "kept")
	for address, want := range map[string]string{
		dir + "/file":                  "something that is no socket is in its place",
		dir + "/file/x":                "not a directory",
		"relative":                     "no absolute path",
		"/" + strings.Repeat("x", 120): "invalid argument",
	} {
		l := listenOn("unix", dir+"/first")
		l.Sockets = append(l.Sockets, spec.Socket{Network: "tcp", Address: "127.0.0.1:0"}, spec.Socket{Network: "unix",
			Address: address})
		before := descriptors(t)
		files, err := Open(l, "shop")
		if err == nil {
			Close(l, files)
			t.Fatalf("%s opens", address)
		}
		if !strings.HasPrefix(err.Error(), "listen for shop on unix:"+address+": ") ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("Open gives %v, want %s", err, want)
		}
		if _, err := os.Lstat(dir + "/first"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the first socket is left behind: %v", address, err)
		}
		if after := descriptors(t); after != before {
			t.Errorf("%s: %d descriptors before, %d after", address, before, after)
		}
	}
	if data, err := os.ReadFile(dir + "/file"); string(data) != "kept" {
		t.Errorf("the file is %q, %v", data, err)
	}
	for _, l := range []spec.Listen{listenOn("sctp", ":1"), listenOn("tcp", "host:1"),
		{Sockets: []spec.Socket{{Network: "unix", Address: dir + "/s"}}, User: "nobody-of-that-name"}} {
		if files, err := Open(l, "shop"); err == nil {
			Close(l, files)
			t.Errorf("%+v opens", l)
		}
	}
}

// TestStaleSocket: only a socket that nobody listens on makes room, of whatever kind it is.
func TestStaleSocket(t *testing.T) {
	for _, left := range []string{"unix", "unixgram", "unixpacket"} {
		for _, wanted := range []string{"unix", "unixgram", "unixpacket"} {
			path := filepath.Join(t.TempDir(), "s")
			files, err := Open(listenOn(left, path), "first")
			must(t, err)
			if second, err := Open(listenOn(wanted, path), "second"); !errors.Is(err, unix.EADDRINUSE) {
				Close(spec.Listen{}, second)
				t.Errorf("%s in the place of a living %s: %v", wanted, left, err)
			}
			files[0].Close() // its owner died
			if !isSocket(path) {
				t.Fatal("nothing is left")
			}
			second := opened(t, listenOn(wanted, path))
			poke(t, second[0])
		}
	}
}

// TestBusySocket: a living socket with a full backlog is not taken for a dead one.
func TestBusySocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	opened(t, listenOn("unix", path))
	for full := false; !full; {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		must(t, err)
		defer unix.Close(fd)
		full = errors.Is(unix.Connect(fd, &unix.SockaddrUnix{Name: path}), unix.EAGAIN)
	}
	if _, err := Open(listenOn("unix", path), "second"); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("Open gives %v", err)
	}
}

// TestClose: the path goes with the socket, unless something else has come in its place.
func TestClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l := listenOn("unix", path)
	files, err := Open(l, "test")
	must(t, err)
	Close(l, files)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the path is left: %v", err)
	}
	Close(l, files) // twice is as good
	files, err = Open(l, "test")
	must(t, err)
	must(t, os.Remove(path))
	write(t, path, "somebody's")
	Close(l, files)
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("somebody's file is removed: %v", err)
	}
}

func TestModeAndOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "directory", "s")
	l := listenOn("unix", path)
	l.Mode, l.User, l.Group = 0o666, strconv.Itoa(os.Getuid()), strconv.Itoa(os.Getgid())
	if os.Getuid() == 0 {
		l.User, l.Group = "12345", "54321"
	}
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	opened(t, l)
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	if st.Mode&0o7777 != 0o666 || strconv.Itoa(int(st.Uid)) != l.User || strconv.Itoa(int(st.Gid)) != l.Group {
		t.Errorf("mode %o, owner %d:%d, want 666, %s:%s", st.Mode&0o7777, st.Uid, st.Gid, l.User, l.Group)
	}
}

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]string{
		":80": ":::80 all", "0.0.0.0:80": "0.0.0.0:80 all", "[::]:1": ":::1 all", "127.0.0.1:0": "127.0.0.1:0",
		"[::1]:65535": "::1:65535", "[::ffff:1.2.3.4]:5": "1.2.3.4:5", "[fe80::1%lo]:5": "fe80::1%lo:5",
	} {
		a, err := parseAddress(text)
		got := a.ip.String() + ":" + strconv.Itoa(int(a.port))
		if a.all {
			got += " all"
		}
		if err != nil || got != want {
			t.Errorf("parseAddress(%q) = %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "80", "localhost:80", ":http", ":65536", ":-1", "::1:80", "1.2.3:4", "[::1]"} {
		if a, err := parseAddress(text); err == nil {
			t.Errorf("parseAddress(%q) = %v without an error", text, a)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{":80", "[::1%lo]:5", "1.2.3.4:65535", "[::ffff:1.2.3.4]:5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAddress(text)
		if err != nil {
			return
		}
		if !a.ip.IsValid() || a.ip.Is4In6() || a.all != a.ip.IsUnspecified() {
			t.Errorf("parseAddress(%q) = %+v", text, a)
		}
		if family := a.family(); (family == unix.AF_INET) != a.ip.Is4() {
			t.Errorf("parseAddress(%q) is of family %d", text, family)
		}
	})
}

const passwd = `root:x:0:0:root:/root:/bin/sh
# a comment
broken:x:abc:1::/:
:x:7:7::/:
web:x:33:34:web:/var/www:/bin/false
99:x:1099:1098::/:/bin/false
short:x:5
`

func TestFind(t *testing.T) {
	for who, want := range map[string]account{"root": {0, 0}, "web": {33, 34}, "33": {33, 34}, "99": {1099, 1098}} {
		if got, ok := find(passwd, who); !ok || got != want {
			t.Errorf("find(%q) = %v, %v, want %v", who, got, ok, want)
		}
	}
	for _, who := range []string{"", "broken", "short", "nobody", "abc", "4294967295", "-1", "7x"} {
		if got, ok := find(passwd, who); ok {
			t.Errorf("find(%q) = %v", who, got)
		}
	}
	if got, ok := find("wheel:x:10:root,web\n", "wheel"); !ok || got != (account{id: 10}) {
		t.Errorf("a group is %v, %v", got, ok)
	}
}

func TestFindOwner(t *testing.T) {
	for _, c := range []struct {
		user, group string
		want        owner
	}{{"", "", owner{0, 0}}, {"0", "", owner{0, 0}}, {"root", "4242", owner{0, 4242}},
		{"4242424", "", owner{4242424, 0}}, {"", "4242", owner{0, 4242}}} {
		if got, err := findOwner(c.user, c.group); err != nil || got != c.want {
			t.Errorf("findOwner(%q, %q) = %v, %v, want %v", c.user, c.group, got, err, c.want)
		}
	}
	for _, c := range [][2]string{{"no such user", ""}, {"", "no such group"}, {"4294967295", ""}} {
		if got, err := findOwner(c[0], c[1]); err == nil {
			t.Errorf("findOwner(%q) = %v without an error", c, got)
		}
	}
}

func FuzzFind(f *testing.F) {
	f.Add(passwd, "web")
	f.Add("wheel:x:10:root,web", "10")
	f.Add("a:b:c", "")
	f.Fuzz(func(t *testing.T, text, who string) {
		a, ok := find(text, who)
		if ok && (who == "" || a.id < 0 || a.group < 0 || a.id >= 1<<32-1) {
			t.Errorf("find(%q, %q) = %v", text, who, a)
		}
	})
}
