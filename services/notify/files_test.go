package notify

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

// sending returns a function that sends text and descriptors to path as any process could.
func sending(t *testing.T, path string) func(text string, fds ...int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func(text string, fds ...int) {
		t.Helper()
		var oob []byte
		if len(fds) > 0 {
			oob = unix.UnixRights(fds...)
		}
		if err := unix.Sendmsg(fd, []byte(text), oob, &unix.SockaddrUnix{Name: path}, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func same(fd, n int) []int {
	fds := make([]int, n)
	for i := range fds {
		fds[i] = fd
	}
	return fds
}

func TestDescriptorsAreHandedOver(t *testing.T) {
	path, got := listening(t)
	send := sending(t, path)
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	send("FDSTORE=1\nFDNAME=pipe", p[0])
	unix.Close(p[0])
	r := <-got
	if r.err != nil || !r.message.FDStore || r.message.FDName != "pipe" || len(r.files) != 1 {
		t.Fatalf("received %+v", r)
	}
	defer r.files[0].Close()
	if name := r.files[0].Name(); name != "pipe" { // which the reason of a start names
		t.Errorf("its name is %q, want that of the message", name)
	}
	if _, err := unix.Write(p[1], []byte("still open")); err != nil {
		t.Errorf("write to what was stored: %v", err)
	}
	unix.Close(p[1])
	b := make([]byte, 32)
	if n, err := r.files[0].Read(b); string(b[:n]) != "still open" {
		t.Errorf("read %q, %v", b[:n], err)
	}
	if flags, err := unix.FcntlInt(r.files[0].Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("a stored descriptor leaks into children: %#x, %v", flags, err)
	}
}

// TestFloodOfDescriptors: who sends all that fits keeps no more of our table than the bound,
// and nothing of it if the message makes no sense.
func TestFloodOfDescriptors(t *testing.T) {
	path, got := listening(t)
	send := sending(t, path)
	before := descriptors(t)
	for range 20 {
		send("FDSTORE=1", same(0, kernelFiles)...)
		r := <-got
		if r.err != nil || r.from.PID != os.Getpid() || len(r.files) != MaxFiles {
			t.Fatalf("received %d files, %v", len(r.files), r.err)
		}
		if now := descriptors(t); now > before+MaxFiles+1 {
			t.Fatalf("%d descriptors before, %d while %d are handed over", before, now, MaxFiles)
		}
		for _, f := range r.files {
			f.Close()
		}
		send("garbage", same(0, kernelFiles)...)
		send("READY=1", same(0, kernelFiles)...)
		send("READY=1\n"+strings.Repeat("x", MaxSize), same(0, kernelFiles)...)
		for range 3 {
			if r := <-got; r.files != nil {
				t.Fatalf("received %+v", r)
			}
		}
	}
	if after := descriptors(t); after > before+1 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// TestStrangersDescriptors: who may leave none has them closed at once, though the message counts.
func TestStrangersDescriptors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	got, over := make(chan int), make(chan error, 1)
	go func() {
		over <- l.Run(ctx, Receiver{
			Accept: func(_ Sender, _ Message, f []*os.File) { got <- len(f) },
			Refuse: func(_ Sender, err error) { t.Errorf("refused: %v", err) },
			Stores: func(s Sender) int { return s.UID - os.Getuid() }, // 0
		})
	}()
	send := sending(t, path)
	before := descriptors(t)
	for range 20 {
		send("FDSTORE=1", same(0, kernelFiles)...)
		if n := <-got; n != 0 {
			t.Fatalf("%d descriptors are kept for somebody who may leave none", n)
		}
	}
	if after := descriptors(t); after > before+1 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	cancel()
	<-over
}

// TestFullTable: with no room in the table the kernel drops descriptors. The message is refused,
// the listener goes on.
func TestFullTable(t *testing.T) {
	path, got := listening(t)
	send := sending(t, path)
	before := descriptors(t)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = uint64(before + 20)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	send("FDSTORE=1", same(0, 100)...)
	r := <-got
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if r.err == nil || r.from.PID != os.Getpid() || r.files != nil {
		t.Errorf("received %+v", r)
	}
	if after := descriptors(t); after > before+1 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	send("READY=1")
	if r := <-got; !r.message.Ready {
		t.Errorf("received %+v", r)
	}
}

// TestBarrier: the descriptor is closed after all that was sent before it was accepted.
func TestBarrier(t *testing.T) {
	path, got := listening(t)
	send := sending(t, path)
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	send("STATUS=first")
	send("BARRIER=1", p[1])
	unix.Close(p[1])
	f := os.NewFile(uintptr(p[0]), "barrier")
	defer f.Close()
	if n, err := f.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d, %v, want the end", n, err)
	}
	select {
	case r := <-got:
		if r.message.Status != "first" {
			t.Errorf("received %+v", r)
		}
	default:
		t.Error("the barrier is lifted before what came first is accepted")
	}
	send("BARRIER=1\nREADY=1", 0)
	if r := <-got; !r.message.Ready || r.files != nil {
		t.Errorf("received %+v", r)
	}
}

// TestTakeOver: what is sent while nobody receives reaches the next life.
func TestTakeOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify.sock")
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := first.File()
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if err := first.Run(over, Receiver{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Run returns %v", err)
	}
	if _, err := first.File(); err == nil {
		t.Error("File of a closed listener succeeds")
	}
	sending(t, path)("READY=1")
	next, err := From(kept, path)
	if err != nil {
		t.Fatal(err)
	}
	kept.Close()
	ctx, cancel := context.WithTimeoutCause(context.Background(), testenv.Patience(), errors.New("nothing came"))
	defer cancel()
	var sender Sender
	err = next.Run(ctx, Receiver{Accept: func(s Sender, m Message, _ []*os.File) { sender = s; cancel() },
		Refuse: func(Sender, error) {}})
	if sender.PID != os.Getpid() {
		t.Errorf("sender %+v, %v", sender, err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the last listener leaves the socket behind")
	}
}

func TestTakeOverOfSomethingElse(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if l, err := From(f, "/nowhere"); err == nil {
		l.Close()
		t.Error("/dev/null is taken over")
	}
}
