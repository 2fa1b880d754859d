// Package notification receives the messages that services send to PID 1 with sd_notify(3): it looks up the sender of
// each, refuses what no service may send, and translates a message into its meaning for the state of the service. It
// changes no service. Read Inbox first.
package notification

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"resinos/services/notify"
	"resinos/services/spec"
)

// Senders tells to which service a process belongs; *processes.Groups does.
type Senders interface {
	Cgroups() bool        // without them Owner is empty
	Owner(pid int) string // the service in whose cgroup the process is
	Session(pid int) int  // without cgroups: the session of the process
}

// Inbox receives messages in one goroutine, that of Run, and passes them to another, which receives from C.
type Inbox struct {
	senders  Senders
	log      *slog.Logger
	listener *notify.Listener // nil until Open or Restore
	socket   *os.File         // a second descriptor of it, for the next life of PID 1
	notes    chan Note
	limits   atomic.Pointer[limits]
	refusals refusals
}

// queued is how many messages wait for the supervisor. While there are as many, senders wait.
const queued = 64

// New returns an Inbox that does not listen yet.
func New(senders Senders, log *slog.Logger) *Inbox {
	in := &Inbox{senders: senders, log: log, notes: make(chan Note, queued)}
	in.limits.Store(&limits{})
	return in
}

// C delivers the messages.
func (in *Inbox) C() <-chan Note { return in.notes }

// Open creates the socket at path, unless Restore has taken it over.
func (in *Inbox) Open(path string) (err error) {
	if in.listener == nil {
		if path == "" {
			return errors.New("no path given")
		}
		if in.listener, err = notify.Listen(path); err != nil {
			return err
		}
	}
	if in.socket, err = in.listener.File(); err != nil {
		in.log.Warn("readiness socket does not outlive a re-exec", "error", err)
	}
	return nil
}

// Restore takes over the socket at path of the earlier life of PID 1; fd then belongs to the Inbox.
func (in *Inbox) Restore(fd int, path string) (err error) {
	in.listener, err = notify.From(os.NewFile(uintptr(fd), path), path)
	return err
}

// Socket returns the descriptor for Restore; nil if there is none.
func (in *Inbox) Socket() *os.File { return in.socket }

// Run receives until ctx is cancelled. Open must have succeeded.
func (in *Inbox) Run(ctx context.Context) error {
	return in.listener.Run(ctx, notify.Receiver{
		Accept: func(from notify.Sender, m notify.Message, files []*os.File) { in.accept(ctx, from, m, files) },
		Refuse: in.refuse, Stores: in.mayStore,
	})
}

// accept looks the sender up at once, because it may end any time.
func (in *Inbox) accept(ctx context.Context, from notify.Sender, m notify.Message, files []*os.File) {
	n := Note{
		From: from, Message: m, Files: files,
		owner: in.senders.Owner(from.PID), session: in.senders.Session(from.PID),
	}
	select {
	case in.notes <- n:
	case <-ctx.Done():
		n.Close()
	}
}

// limits says how many descriptors each service may leave with PID 1.
type limits struct {
	of   map[string]int
	most int
}

// SetLimits takes the limits of specs for all further messages.
func (in *Inbox) SetLimits(specs []spec.Spec) {
	all := &limits{of: map[string]int{}}
	for i := range specs {
		if n := specs[i].FDStore; n > 0 {
			all.of[specs[i].Name], all.most = n, max(all.most, n)
		}
	}
	in.limits.Store(all)
}

// mayStore returns how many descriptors a sender may leave. Without cgroups the senders cannot be told apart yet: then
// it is what some service may, and the owner of the message closes what is too much.
func (in *Inbox) mayStore(from notify.Sender) int {
	all := in.limits.Load()
	if !in.senders.Cgroups() {
		return all.most
	}
	return all.of[in.senders.Owner(from.PID)]
}

// Refuse closes the files of a message of no service and reports it.
func (in *Inbox) Refuse(n Note) {
	n.Close()
	in.refuse(n.From, errors.New("sender belongs to no service"))
}

func (in *Inbox) refuse(from notify.Sender, err error) {
	report, unreported := in.refusals.next(time.Now())
	switch {
	case report && unreported > 0:
		in.log.Warn("notification refused, and others before it", "pid", from.PID, "count", unreported, "error", err)
	case report:
		in.log.Warn("notification refused", "pid", from.PID, "error", err)
	}
}
