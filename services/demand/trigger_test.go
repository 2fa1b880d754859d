package demand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/services/spec"
)

// silence is how long a test waits for what must not come.
const silence = 150 * time.Millisecond

// watching runs a Watcher until the test ends, and holds that it then gives everything back.
func watching(t testing.TB) *Watcher {
	t.Helper()
	before := descriptors(t)
	w, err := New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-over; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returns %v", err)
		}
		if err := w.Arm(1, nil, []string{"/"}); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Arm after the end gives %v", err)
		}
		w.Disarm(1)
		if after := descriptors(t); after > before+1 { // Go's own poller may be one
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
	return w
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func arm(t testing.TB, w *Watcher, id int, sockets []*os.File, paths ...string) {
	t.Helper()
	if err := w.Arm(id, sockets, paths); err != nil {
		t.Fatal(err)
	}
}

func wantFire(t testing.TB, w *Watcher, want Fire) {
	t.Helper()
	if got := testenv.Receive(t, want.What, w.Fired()); got != want {
		t.Fatalf("fired %+v, want %+v", got, want)
	}
}

func wantSilence(t testing.TB, w *Watcher) {
	t.Helper()
	testenv.NeverReceive(t, silence, "a fire", w.Fired())
}

// opened opens sockets and closes them when the test ends.
func opened(t testing.TB, l spec.Listen) []*os.File {
	t.Helper()
	files, err := Open(l, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Close(l, files) })
	return files
}

func listenOn(network, address string) spec.Listen {
	return spec.Listen{Mode: 0o600, Sockets: []spec.Socket{{Network: network, Address: address}}}
}

// poke sends something to a socket as a client does, without waiting for an answer. It returns
// the client.
func poke(t testing.TB, f *os.File) *os.File {
	t.Helper()
	at, kind := unix.Sockaddr(nil), 0
	err := control(f, func(fd int) (err error) {
		if kind, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err == nil {
			at, err = unix.Getsockname(fd)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	family := unix.AF_UNIX
	switch a := at.(type) {
	case *unix.SockaddrInet4:
		family = unix.AF_INET
	case *unix.SockaddrInet6:
		family, at = unix.AF_INET, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte{127, 0, 0, 1}} // both families
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	client := os.NewFile(uintptr(fd), "client")
	t.Cleanup(func() { client.Close() })
	if err := unix.Connect(fd, at); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(fd, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	return client
}

// kinds are all that a service can listen on.
func kinds(t testing.TB) map[string]spec.Listen {
	dir := t.TempDir()
	return map[string]spec.Listen{
		"tcp":        listenOn("tcp", ":0"),
		"tcp4":       listenOn("tcp", "127.0.0.1:0"),
		"udp":        listenOn("udp", ":0"),
		"unix":       listenOn("unix", filepath.Join(dir, "a", "b", "stream")),
		"unixgram":   listenOn("unixgram", filepath.Join(dir, "gram")),
		"unixpacket": listenOn("unixpacket", filepath.Join(dir, "packet")),
	}
}

// TestHangup: what is no socket fires when its other end is gone, with the file that will never have traffic again.
func TestHangup(t *testing.T) {
	w := watching(t)
	r, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer end.Close()
	arm(t, w, 5, []*os.File{r})
	wantSilence(t, w)
	end.WriteString("x")
	wantFire(t, w, Fire{ID: 5, What: "traffic on |0"})
	end.Close()
	arm(t, w, 5, []*os.File{r})
	wantFire(t, w, Fire{ID: 5, What: "end of |0", Gone: r})
	before := w.looks.Load()
	wantSilence(t, w)
	if after := w.looks.Load(); after > before+1 {
		t.Errorf("%d wake-ups for a file that hung up", after-before)
	}
}

// TestUevents: the socket of the kernel's events has them, with their sender, and as many as come while a service
// starts; only the kernel's are known by their credentials.
func TestUevents(t *testing.T) {
	testenv.NeedRoot(t, "a network namespace, whose links come and go")
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	w, files := watching(t), opened(t, listenOn("netlink", ueventFamily))
	arm(t, w, 3, files)
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "demand0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		testenv.Lacking(t, "a kernel with bridges: %v", err)
	}
	wantFire(t, w, Fire{ID: 3, What: "traffic on netlink:kobject-uevent"})
	size, err1 := unix.GetsockoptInt(int(files[0].Fd()), unix.SOL_SOCKET, unix.SO_RCVBUF)
	pass, err2 := unix.GetsockoptInt(int(files[0].Fd()), unix.SOL_SOCKET, unix.SO_PASSCRED)
	if err := errors.Join(err1, err2); err != nil || size < ueventQueue || pass != 1 {
		t.Errorf("queue of %d bytes, credentials %d, %v", size, pass, err)
	}
	if files, err := Open(listenOn("netlink", "route"), "shop"); err == nil {
		Close(spec.Listen{}, files)
		t.Error("netlink:route opens")
	}
}

// TestTraffic: each kind of socket fires once, does not spin while nobody takes what came, and
// fires at once when it is armed again.
func TestTraffic(t *testing.T) {
	for name, l := range kinds(t) {
		t.Run(name, func(t *testing.T) {
			w, files := watching(t), opened(t, l)
			want := Fire{ID: 7, What: "traffic on " + l.Sockets[0].Network + ":" + l.Sockets[0].Address}
			arm(t, w, 7, files)
			wantSilence(t, w)
			poke(t, files[0])
			wantFire(t, w, want)
			before := w.looks.Load()
			poke(t, files[0])
			wantSilence(t, w)
			wantRest(t, w, before, "while nobody takes the traffic")
			arm(t, w, 7, files)
			wantFire(t, w, want)
			wantSilence(t, w)
		})
	}
}

// wantRest wants that the watcher has hardly been woken since it had looked so often. What was under way then wakes it
// once or twice, and a client perhaps; a watcher that spins is woken as often as the processor can.
func wantRest(t testing.TB, w *Watcher, before uint64, while string) {
	t.Helper()
	const most = 10
	if woken := w.looks.Load() - before; woken > most {
		t.Errorf("woken %d times %s, want at most %d", woken, while, most)
	}
}

// offered waits until the watcher has a fire for whoever receives next.
func offered(t testing.TB, w *Watcher) {
	t.Helper()
	testenv.WaitFor(t, "a fire is offered", func() bool { return w.head() != nil })
}

// taken waits until the watcher has carried out what was asked for.
func taken(t testing.TB, w *Watcher) {
	t.Helper()
	testenv.WaitFor(t, "what was asked for is taken", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.requests) == 0
	})
}

// TestArmBeforeRun: PID 1 arms before its loops run, and is not made to wait.
func TestArmBeforeRun(t *testing.T) {
	files := opened(t, listenOn("tcp", "127.0.0.1:0"))
	poke(t, files[0])
	w, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for id := range 1000 {
		arm(t, w, id, nil, "/nowhere")
		w.Disarm(id)
	}
	arm(t, w, 1, files)
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- w.Run(ctx) }()
	wantFire(t, w, Fire{ID: 1, What: "traffic on tcp:127.0.0.1:0"})
	cancel()
	<-over
}

// TestDisarm: what is disarmed does not fire, even if it has fired and nobody has looked yet.
func TestDisarm(t *testing.T) {
	w, files := watching(t), opened(t, listenOn("tcp", "127.0.0.1:0"))
	arm(t, w, 1, files)
	w.Disarm(1)
	poke(t, files[0])
	wantSilence(t, w)
	arm(t, w, 1, files)
	offered(t, w)
	w.Disarm(1)
	if w.head() != nil {
		t.Error("the fire of what is disarmed is still offered")
	}
	// Deliver may be about to hand it to whoever receives at this very moment, which nobody does. It looks at the news
	// first.
	settled(t, w)
	wantSilence(t, w)
	w.Disarm(99)
}

// TestCloseWhileArmed: of a closed socket nothing comes, be it closed altogether or kept open by
// a child, and the others go on.
func TestCloseWhileArmed(t *testing.T) {
	w := watching(t)
	gone, kept, stays := opened(t, listenOn("tcp", "127.0.0.1:0")), opened(t, listenOn("tcp", "127.0.0.1:0")),
		opened(t, listenOn("tcp", "127.0.0.1:0"))
	arm(t, w, 1, gone)
	arm(t, w, 2, kept)
	arm(t, w, 3, stays)
	child := -1
	if err := control(kept[0], func(fd int) (err error) {
		child, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC,
			0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	held := os.NewFile(uintptr(child), "held by a child")
	defer held.Close()
	wantSilence(t, w)
	gone[0].Close()
	kept[0].Close()
	w.Disarm(1)
	w.Disarm(2)
	taken(t, w)
	before := w.looks.Load()
	for range 5 {
		poke(t, held)
	}
	wantSilence(t, w)
	wantRest(t, w, before, "for a socket that is closed")
	poke(t, stays[0])
	wantFire(t, w, Fire{ID: 3, What: "traffic on tcp:127.0.0.1:0"})
	arm(t, w, 1, gone) // closed: logged, no more
	wantSilence(t, w)
}

// TestShutDownByChild: a shared listener that a child shut down is ready for ever; it does not spin.
func TestShutDownByChild(t *testing.T) {
	w, files := watching(t), opened(t, listenOn("tcp", "127.0.0.1:0"))
	arm(t, w, 1, files)
	if err := control(files[0], func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) }); err != nil {
		t.Fatal(err)
	}
	wantSilence(t, w)
	arm(t, w, 1, files)
	wantSilence(t, w)
}

// TestFiresCoalesce: a receiver that does not look gets one fire an id, and holds nobody up.
func TestFiresCoalesce(t *testing.T) {
	w := watching(t)
	one, two := opened(t, listenOn("udp", "127.0.0.1:0")), opened(t, listenOn("udp", "127.0.0.1:0"))
	poke(t, one[0])
	poke(t, two[0])
	for range 50 {
		arm(t, w, 1, one)
		arm(t, w, 2, two)
		taken(t, w)
	}
	got := map[int]int{}
	for range 2 {
		got[testenv.Receive(t, "a fire", w.Fired()).ID]++
	}
	if got[1] != 1 || got[2] != 1 {
		t.Errorf("fires per id: %v", got)
	}
	wantSilence(t, w)
}

// TestFlood: a socket under fire costs one fire an arming, and others are served meanwhile.
func TestFlood(t *testing.T) {
	w := watching(t)
	flooded, calm := opened(t, listenOn("udp", "127.0.0.1:0")), opened(t, listenOn("tcp", "127.0.0.1:0"))
	client := poke(t, flooded[0])
	stop, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-stop:
				return
			default:
				client.Write([]byte("flood")) // a full buffer drops it
			}
		}
	}()
	defer func() { close(stop); <-over }()
	for range 100 {
		arm(t, w, 1, flooded)
		wantFire(t, w, Fire{ID: 1, What: "traffic on udp:127.0.0.1:0"})
	}
	wantSilence(t, w)
	arm(t, w, 2, calm)
	poke(t, calm[0])
	wantFire(t, w, Fire{ID: 2, What: "traffic on tcp:127.0.0.1:0"})
}

func TestArmRefuses(t *testing.T) {
	w := watching(t)
	for _, path := range []string{"", "etc/x", "/a\x00b"} {
		if err := w.Arm(1, nil, []string{path}); err == nil {
			t.Errorf("path %q is armed", path)
		}
	}
	if err := w.Arm(1, []*os.File{nil}, nil); err == nil {
		t.Error("no socket is armed")
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	arm(t, w, 1, []*os.File{file}) // epoll refuses it, which is logged
	wantSilence(t, w)
}

// TestAtRest: with a thousand things armed and nothing happening there is no work at all.
func TestAtRest(t *testing.T) {
	w, dir := watching(t), t.TempDir()
	files := opened(t, listenOn("tcp", "127.0.0.1:0"))
	arm(t, w, 0, files)
	for id := range 1000 {
		arm(t, w, id+1, nil, filepath.Join(dir, fmt.Sprint(id)))
	}
	settled(t, w)
	before := w.looks.Load()
	testenv.NeverReceive(t, time.Second, "a fire", w.Fired())
	wantRest(t, w, before, "in a second of rest")
	if err := os.WriteFile(filepath.Join(dir, "500"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantFire(t, w, Fire{ID: 501, What: "change of " + filepath.Join(dir, "500")})
	wantSilence(t, w)
}

func TestAccept(t *testing.T) {
	for name, l := range kinds(t) {
		if !networks[l.Sockets[0].Network].listens {
			continue
		}
		t.Run(name, func(t *testing.T) {
			files := opened(t, l)
			if _, _, err := Accept(files[0]); err != ErrNone {
				t.Fatalf("Accept of nothing gives %v", err)
			}
			poke(t, files[0])
			conn, peer, err := Accept(files[0])
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			want := "127.0.0.1:"
			if networks[l.Sockets[0].Network].unix {
				want = fmt.Sprintf("uid %d pid %d", os.Getuid(), os.Getpid())
			}
			if !strings.HasPrefix(peer, want) {
				t.Errorf("peer is %q, want %q", peer, want)
			}
			b := make([]byte, 16)
			if n, err := conn.Read(b); string(b[:n]) != "hello" {
				t.Errorf("read %q, %v", b[:n], err)
			}
			flags, err1 := unix.FcntlInt(conn.Fd(), unix.F_GETFL, 0)
			closes, err2 := unix.FcntlInt(conn.Fd(), unix.F_GETFD, 0)
			if err := errors.Join(err1, err2); err != nil || flags&unix.O_NONBLOCK != 0 || closes&unix.FD_CLOEXEC == 0 {
				t.Errorf("the connection has flags %#x, %#x, %v", flags, closes, err)
			}
			if _, _, err := Accept(files[0]); err != ErrNone {
				t.Errorf("Accept of nothing more gives %v", err)
			}
		})
	}
	gram := opened(t, listenOn("udp", "127.0.0.1:0"))
	if _, _, err := Accept(gram[0]); err == nil || err == ErrNone {
		t.Errorf("Accept on udp gives %v", err)
	}
}

// BenchmarkArmToFire is from Arm to the receipt of the fire, with traffic waiting.
func BenchmarkArmToFire(b *testing.B) {
	w, files := watching(b), opened(b, listenOn("udp", "127.0.0.1:0"))
	poke(b, files[0])
	for b.Loop() {
		arm(b, w, 1, files)
		<-w.Fired()
	}
}

// BenchmarkTrafficToFire is from a datagram to the receipt of the fire.
func BenchmarkTrafficToFire(b *testing.B) {
	w, files := watching(b), opened(b, listenOn("udp", "127.0.0.1:0"))
	client := poke(b, files[0])
	buf := make([]byte, 16)
	if _, err := files[0].Read(buf); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		arm(b, w, 1, files)
		if _, err := client.Write([]byte("x")); err != nil {
			b.Fatal(err)
		}
		<-w.Fired()
		if _, err := files[0].Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}
