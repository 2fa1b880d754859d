// Package demand owns the demands that start a service: the sockets that PID 1 opens for it (Open), waiting for traffic
// on them or for a change of a path (Watcher), and accepting one connection (Accept). It starts nothing, reads no data,
// and knows a service only as a number. Read Watcher first.
package demand

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
)

// Fire reports that the demand of a service has happened.
type Fire struct {
	ID   int    // as in Arm
	What string // for people: "traffic on tcp::80", "change of /etc/x"
	// Gone is the armed file if it will never have traffic again: its device or its other end is gone. nil otherwise.
	Gone *os.File
}

// Watcher waits for everything that is armed, in one epoll. Each fires once: what has fired is disarmed, so that
// traffic that nobody reads costs nothing. Any goroutine may call Arm and Disarm, also before Run, and they never wait
// for more than a short lock.
//
//	Arm, Disarm ─▶ requests ─▶ Run: sockets, paths ─▶ fires ─▶ deliver ─▶ Fired
//	                  └─ wake ────▲
type Watcher struct {
	log   *slog.Logger
	poll  *os.File // the epoll; Go's own poller waits for it, so no thread is blocked
	fired chan Fire
	news  chan struct{} // capacity 1: fires has changed

	// Used by Run only.
	paths   *paths
	sockets map[uint64]socket // by the number in the epoll event
	armed   map[int][]uint64  // numbers of the sockets of an id
	last    uint64            // number given out

	looks atomic.Uint64 // wake-ups of the epoll, which tests count

	// mu guards what follows.
	mu       sync.Mutex
	wake     int             // eventfd; -1 when Run is over
	requests map[int]request // the latest of each id wins
	fires    []*Fire         // at most one for each id
}

// socket is an armed socket. Its descriptor belongs to the caller, who may close it at any time.
type socket struct {
	id   int
	file *os.File
}

// request is what to arm an id with; without content it is disarmed.
type request struct {
	sockets []*os.File
	paths   []string
	since   unix.Timespec // later changes of paths count
}

// awaits reports whether a fire is a change of one of the paths. Unlike traffic, such a change is not seen again.
func (r request) awaits(f Fire) bool {
	return slices.ContainsFunc(r.paths, func(path string) bool { return f.What == changeOf(path) })
}

func changeOf(path string) string { return "change of " + path }

// Numbers in epoll events that belong to no socket.
const (
	wakeNumber uint64 = iota
	pathsNumber
	firstNumber
)

// New returns a Watcher. Run must be called once; it closes everything at its end.
func New(log *slog.Logger) (*Watcher, error) {
	w := &Watcher{
		log: log, wake: -1, fired: make(chan Fire), news: make(chan struct{}, 1),
		sockets: map[uint64]socket{}, armed: map[int][]uint64{}, requests: map[int]request{}, last: firstNumber,
	}
	if err := w.open(); err != nil {
		w.shut()
		return nil, fmt.Errorf("make demand watcher: %w", err)
	}
	return w, nil
}

func (w *Watcher) open() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // NewFile adds a non-blocking descriptor to Go's poller
		unix.Close(fd) // nobody else has it
		return os.NewSyscallError("fcntl", err)
	}
	w.poll = os.NewFile(uintptr(fd), "epoll")
	if w.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	w.paths = newPaths(w.inotify, w.log)
	return w.add(w.wake, unix.EPOLLIN, wakeNumber)
}

// inotify opens an instance for which Run waits.
func (w *Watcher) inotify() (dirwatch.Inotify, error) {
	i, err := dirwatch.NewInotify()
	if err != nil {
		return -1, err
	}
	if err := w.add(int(i), unix.EPOLLIN, pathsNumber); err != nil {
		i.Close()
		return -1, err
	}
	return i, nil
}

// Arm lets id fire once: when one of the sockets, terminals or input devices has traffic, also traffic that waits
// already, or when one of the absolute paths changes, which may be missing yet. It replaces what id was armed with; but
// a change of a path in both that nobody has received yet still fires. The files belong to the caller; one that is
// closed while armed no longer fires. What the kernel refuses to watch later is logged.
func (w *Watcher) Arm(id int, sockets []*os.File, paths []string) error {
	for _, f := range sockets {
		if f == nil {
			return errors.New("arm demand: no socket")
		}
	}
	for _, path := range paths {
		if !strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0) {
			return fmt.Errorf("arm demand: %q is no absolute path", path)
		}
	}
	return w.request(id, request{slices.Clone(sockets), slices.Clone(paths), fileClock()})
}

// Disarm disarms id, and drops a fire of it that nobody has received yet. One that is being received at this moment may
// still come.
func (w *Watcher) Disarm(id int) {
	w.request(id, request{}) // when Run is over nothing is armed
}

// Fired returns the channel of fires, which has at most one for each id at a time. It is never closed.
func (w *Watcher) Fired() <-chan Fire { return w.fired }

func (w *Watcher) request(id int, r request) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wake < 0 {
		return fmt.Errorf("arm demand: %w", os.ErrClosed)
	}
	w.requests[id] = r
	if i := w.waiting(id); i >= 0 && !r.awaits(*w.fires[i]) {
		w.fires = slices.Delete(w.fires, i, i+1)
		w.tell()
	}
	w.kick()
	return nil
}

// kick ends the wait of Run; the caller holds mu.
func (w *Watcher) kick() {
	if w.wake >= 0 {
		unix.Write(w.wake, []byte{0, 0, 0, 0, 0, 0, 0, 1}) // if it is full, Run is awake already
	}
}

// Run watches until ctx is cancelled, then closes everything and returns ctx's cause.
func (w *Watcher) Run(ctx context.Context) error {
	defer w.shut()
	stop := context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.kick()
	})
	defer stop()
	inner, cancel := context.WithCancel(ctx)
	var delivery sync.WaitGroup
	delivery.Go(func() { w.deliver(inner) })
	defer delivery.Wait()
	defer cancel()
	events := make([]unix.EpollEvent, 64)
	for {
		w.take()
		for _, f := range w.paths.settle(time.Now()) {
			w.fire(f)
		}
		n, err := w.wait(events)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("wait for demand: %w", err)
		}
		for _, ev := range events[:n] {
			w.event(number(ev), ev.Events)
		}
	}
}

// wait returns the events of the epoll; none if a path is due.
func (w *Watcher) wait(events []unix.EpollEvent) (n int, err error) {
	raw, err := w.poll.SyscallConn()
	if err != nil {
		return 0, err
	}
	if err := w.poll.SetReadDeadline(w.paths.next()); err != nil {
		return 0, err
	}
	var polled error
	err = raw.Read(func(fd uintptr) bool {
		w.looks.Add(1)
		n, polled = unix.EpollWait(int(fd), events, 0)
		return n != 0 && !errors.Is(polled, unix.EINTR)
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, nil
	}
	return max(n, 0), errors.Join(err, polled)
}

func (w *Watcher) event(number uint64, events uint32) {
	switch number {
	case wakeNumber:
		var b [8]byte
		unix.Read(w.wake, b[:]) // another event may have emptied it
	case pathsNumber:
		w.paths.read(time.Now())
	default:
		w.traffic(number, events)
	}
}

// traffic handles an event of a socket, which the kernel has switched off with the event.
func (w *Watcher) traffic(number uint64, events uint32) {
	s, ok := w.sockets[number]
	switch {
	case !ok: // it was disarmed meanwhile, or we closed it and a child has it open
	case events&unix.EPOLLHUP != 0 && !isSocketFile(s.file):
		w.fire(Fire{ID: s.id, What: "end of " + s.file.Name(), Gone: s.file})
	case events&unix.EPOLLHUP != 0:
		// A child has shut the shared socket down. It would be ready for ever, and never have a connection again.
		w.log.Warn("demand lost", "path", s.file.Name(), "error", "socket was shut down")
	case events&unix.EPOLLIN != 0:
		w.fire(Fire{ID: s.id, What: "traffic on " + s.file.Name()})
	default: // an error of one datagram, such as an ICMP answer to it
		if err := w.again(s.file, number); err != nil {
			w.log.Warn("demand lost", "path", s.file.Name(), "error", err)
		}
	}
}

// again clears the error of a socket and switches the socket on.
func (w *Watcher) again(f *os.File, number uint64) error {
	return control(f, func(fd int) error {
		unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR) // its value does not matter
		return w.ctl(unix.EPOLL_CTL_MOD, fd, unix.EPOLLIN|unix.EPOLLONESHOT, number)
	})
}

// take processes the requests.
func (w *Watcher) take() {
	w.mu.Lock()
	requests := w.requests
	w.requests = map[int]request{}
	w.mu.Unlock()
	for id, r := range requests {
		pending := w.paths.pending(id, r.paths)
		w.disarm(id)
		for _, f := range r.sockets {
			if err := w.arm(id, f); err != nil && !errors.Is(err, os.ErrClosed) {
				w.log.Warn("demand lost", "path", f.Name(), "error", err)
			}
		}
		for _, path := range r.paths {
			w.paths.add(id, path, r.since)
		}
		w.paths.restore(id, pending)
	}
}

func (w *Watcher) arm(id int, f *os.File) error {
	w.last++
	number := w.last
	err := control(f, func(fd int) error { return w.add(fd, unix.EPOLLIN|unix.EPOLLONESHOT, number) })
	if err == nil {
		w.sockets[number] = socket{id, f}
		w.armed[id] = append(w.armed[id], number)
	}
	return err
}

func (w *Watcher) disarm(id int) {
	for _, number := range w.armed[id] {
		// It may be closed: the kernel removes it with its last descriptor, and if a child has one, the number has no
		// meaning any more.
		control(w.sockets[number].file, func(fd int) error { return w.ctl(unix.EPOLL_CTL_DEL, fd, 0, 0) })
		delete(w.sockets, number)
	}
	delete(w.armed, id)
	w.paths.remove(id)
}

// fire disarms an id and passes the fire to deliver, unless another one or a request was faster.
func (w *Watcher) fire(f Fire) {
	if len(w.armed[f.ID]) == 0 && len(w.paths.armed[f.ID]) == 0 {
		return // two of its paths at once
	}
	w.disarm(f.ID)
	w.mu.Lock()
	defer w.mu.Unlock()
	if r, overtaken := w.requests[f.ID]; overtaken && !r.awaits(f) || w.waiting(f.ID) >= 0 {
		return
	}
	w.fires = append(w.fires, &f)
	w.tell()
}

// waiting returns the index of id's fire, or -1 if it has none; the caller holds mu.
func (w *Watcher) waiting(id int) int {
	return slices.IndexFunc(w.fires, func(f *Fire) bool { return f.ID == id })
}

func (w *Watcher) tell() {
	select {
	case w.news <- struct{}{}:
	default: // deliver will look in any case
	}
}

// deliver passes fires on as fast as the receiver takes them, so that Run need not wait.
func (w *Watcher) deliver(ctx context.Context) {
	for {
		var out chan<- Fire
		var fire Fire
		head := w.head()
		if head != nil {
			out, fire = w.fired, *head
		}
		select {
		case <-ctx.Done():
			return
		case <-w.news:
		case out <- fire:
			w.drop(head)
		}
	}
}

func (w *Watcher) head() *Fire {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.fires) == 0 {
		return nil
	}
	return w.fires[0]
}

func (w *Watcher) drop(f *Fire) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.fires, f); i >= 0 {
		w.fires = slices.Delete(w.fires, i, i+1)
	}
}

func (w *Watcher) shut() {
	w.mu.Lock()
	if w.wake >= 0 {
		unix.Close(w.wake) // nothing is buffered
		w.wake = -1
	}
	w.requests, w.fires = map[int]request{}, nil
	w.mu.Unlock()
	if w.poll != nil {
		w.poll.Close() // nothing is buffered
	}
	if w.paths != nil {
		w.paths.close()
	}
}

// add adds fd to the epoll. It may be there already with an old number, if somebody closed and reopened it.
func (w *Watcher) add(fd int, events uint32, number uint64) error {
	err := w.ctl(unix.EPOLL_CTL_ADD, fd, events, number)
	if errors.Is(err, unix.EEXIST) {
		return w.ctl(unix.EPOLL_CTL_MOD, fd, events, number)
	}
	return err
}

func (w *Watcher) ctl(op, fd int, events uint32, number uint64) error {
	return control(w.poll, func(poll int) error {
		ev := unix.EpollEvent{Events: events, Fd: int32(uint32(number)), Pad: int32(uint32(number >> 32))}
		return os.NewSyscallError("epoll_ctl", unix.EpollCtl(poll, op, fd, &ev))
	})
}

// number returns the number that ctl has put into an event.
func number(ev unix.EpollEvent) uint64 {
	return uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
}
