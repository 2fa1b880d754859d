package supervise

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"resinos/services/boottime"
	"resinos/services/hold"
	"resinos/services/notify"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
)

// stateVersion is that of the saved state. Of another one the caller starts afresh.
const stateVersion = 1

// saved is the whole state of a supervisor, for the next life of its process. Times are counted
// from the kernel's start (CLOCK_BOOTTIME), 0 is none; files are places in the list beside it.
type saved struct {
	Version  int            `json:"version"`
	Ending   bool           `json:"ending"`
	Notify   *int           `json:"notify,omitempty"`
	Services []savedService `json:"services"`
	Exits    []savedExit    `json:"exits,omitempty"` // known to the reaper, not yet to the loop
}

type savedService struct {
	Spec    spec.Spec `json:"spec"`
	Removed bool      `json:"removed,omitempty"`

	Phase                     string        `json:"phase"`
	Since, Deadline, UpSince  time.Duration `json:",omitzero"`
	BeganAt, Window           time.Duration `json:",omitzero"`
	Wanted, Going, Missed     bool          `json:",omitzero"`
	Soon, Reloading, Spoiled  bool          `json:",omitzero"`
	Blame, Why, Text          string        `json:",omitzero"`
	PID, LastPID              int           `json:",omitzero"`
	LastWait                  uint32        `json:",omitzero"`
	Tries, Lives              int           `json:",omitzero"`
	Failures, Losses          int           `json:",omitzero"`
	Birth                     uint64        `json:",omitzero"` // of PID, in clock ticks
	OOMs                      int           `json:",omitzero"` // kills in its group before this life
	Clients                   []savedClient `json:",omitempty"`
	Sockets                   []int         `json:",omitempty"`
	Stored                    []savedFile   `json:",omitempty"`
	Pipe                      *int          `json:",omitempty"`
	Changed, FirstUp, FirstAt float64       `json:",omitzero"` // what status shows
	Stale                     bool          `json:",omitzero"`
}

type savedClient struct {
	PID   int
	Birth uint64
}

type savedFile struct {
	Name string
	File int
}

type savedExit struct {
	PID  int
	Wait uint32
}

// Save gives everything that the next life of this process needs to go on: Config.Saved and
// Config.Files. It is for after Run has returned with ErrFrozen, or has panicked, and after the
// reaper has ended: what dies from then on waits to be reaped. The files stay ours.
func (s *Supervisor) Save() (state []byte, files []*os.File, err error) {
	out := saved{Version: stateVersion, Ending: s.world.Ending}
	keep := func(f *os.File) int {
		files = append(files, f)
		return len(files) - 1
	}
	s.hearOut()
	if s.socket != nil {
		at := keep(s.socket)
		out.Notify = &at
	}
	out.Services = make([]savedService, 0, len(s.world.Services))
	for i := range s.world.Services {
		out.Services = append(out.Services, s.saveService(i, keep))
	}
	exits, _ := s.mail.take()
	for _, x := range exits {
		out.Exits = append(out.Exits, savedExit{x.status.Pid, uint32(x.status.Wait)})
	}
	state, err = json.Marshal(out)
	if err != nil {
		return nil, nil, fmt.Errorf("save supervisor: %w", err)
	}
	return state, files, nil
}

// hearOut takes in the notifications that were received and not yet dealt with. After a panic one of
// them may be what the loop stumbled over, so each may fail by itself.
func (s *Supervisor) hearOut() {
	for {
		select {
		case n := <-s.notes:
			func() {
				defer func() { _ = recover() }() // the panic that matters is being dealt with
				s.note(n)
			}()
		default:
			return
		}
	}
}

// since turns a moment of this process's clock into time since the kernel's start.
func since(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return boottime.Now() + time.Until(t)
}

// at is the reverse of since.
func at(since time.Duration) time.Time {
	if since == 0 {
		return time.Time{}
	}
	return monotonic(since)
}

func (s *Supervisor) saveService(i int, keep func(*os.File) int) savedService {
	svc, l := s.world.Services[i], s.lives[i]
	out := savedService{
		Spec: s.world.Specs[i], Removed: l.removed, Phase: svc.Phase.String(),
		Since: since(svc.Since), Deadline: since(svc.Deadline), UpSince: since(svc.UpSince),
		BeganAt: since(svc.Began), Window: since(svc.Window),
		Wanted: svc.Wanted, Going: svc.Going, Missed: svc.Missed, Soon: svc.Soon, Reloading: svc.Reloading, Spoiled: svc.Spoiled,
		Blame: svc.Blame, Why: svc.Why, Text: l.text, PID: svc.PID, LastPID: svc.Last.Pid, LastWait: uint32(svc.Last.Wait),
		Tries: svc.Tries, Lives: svc.Lives, Failures: svc.Failures, Losses: svc.Losses,
		Birth: l.birth, OOMs: l.ooms, Changed: l.changed, FirstAt: l.began, FirstUp: l.ready, Stale: l.stale,
	}
	for pid := range l.clients {
		birth, _ := proc.StartTime(pid) // 0 when it is gone: the next life finds out
		out.Clients = append(out.Clients, savedClient{pid, birth})
	}
	for _, f := range l.sockets {
		out.Sockets = append(out.Sockets, keep(f))
	}
	for _, st := range l.stored {
		out.Stored = append(out.Stored, savedFile{st.name, keep(st.file)})
	}
	if l.pipe != nil {
		at := keep(l.pipe)
		out.Pipe = &at
	}
	return out
}

// restore makes the world that was saved. The processes are taken over by resume.
func (s *Supervisor) restore() error {
	// As many as there can be, so that they are not moved while their number grows: each has more than a kilobyte.
	in := saved{Services: make([]savedService, 0, bytes.Count(s.cfg.Saved, []byte(`{"spec":`)))}
	if err := json.Unmarshal(s.cfg.Saved, &in); err != nil {
		return fmt.Errorf("restore supervisor: %w", err)
	}
	if in.Version != stateVersion {
		return fmt.Errorf("restore supervisor: version %d is not spoken here, only %d", in.Version, stateVersion)
	}
	files := descriptors(s.cfg.Files)
	specs := make([]spec.Spec, len(in.Services))
	for i := range in.Services {
		specs[i] = in.Services[i].Spec
	}
	if in.Notify != nil {
		fd, err := files.at(*in.Notify)
		if err == nil {
			s.notify, err = notify.From(os.NewFile(uintptr(fd), s.cfg.NotifyPath), s.cfg.NotifyPath)
		}
		if err != nil {
			return fmt.Errorf("restore supervisor: %w", err)
		}
	}
	s.settle(specs)
	s.world.Ending = in.Ending
	for k := range in.Services {
		if err := s.restoreService(&in.Services[k], files); err != nil {
			return fmt.Errorf("restore service %s: %w", specs[k].Name, err)
		}
	}
	s.takeOver(in.Exits)
	s.cfg.Saved, s.cfg.Files, s.resumes = nil, nil, true
	return nil
}

type descriptors []int

// at gives a descriptor out, and once only: with two owners, the second to close it would close another's.
func (d descriptors) at(i int) (int, error) {
	if i < 0 || i >= len(d) || d[i] < 0 {
		return -1, fmt.Errorf("descriptor %d of %d is missing, or taken over already", i, len(d))
	}
	fd := d[i]
	d[i] = -1
	return fd, nil
}

// held is a descriptor that is kept for others: our poller must never look at it.
func (d descriptors) held(i int, name string) (*os.File, error) {
	fd, err := d.at(i)
	if err != nil {
		return nil, err
	}
	return hold.File(fd, name)
}

func (s *Supervisor) restoreService(in *savedService, files descriptors) error {
	i, known := s.index[in.Spec.Name]
	if !known {
		return errors.New("it is named twice")
	}
	svc, l := &s.world.Services[i], s.lives[i]
	p, known := lifecycle.ParsePhase(in.Phase)
	if !known {
		return fmt.Errorf("no phase %q", in.Phase)
	}
	epoch, seed, broken := svc.Epoch, svc.Seed, svc.Broken
	*svc = lifecycle.Service{
		Phase: p, Since: at(in.Since), Deadline: at(in.Deadline), UpSince: at(in.UpSince), Began: at(in.BeganAt), Window: at(in.Window),
		Epoch: epoch, Seed: seed, Broken: broken,
		Wanted: in.Wanted, Going: in.Going, Missed: in.Missed, Soon: in.Soon, Reloading: in.Reloading, Spoiled: in.Spoiled,
		Blame: in.Blame, Why: in.Why, PID: in.PID, Last: proc.Status{Pid: in.LastPID, Wait: syscall.WaitStatus(in.LastWait)},
		Tries: in.Tries, Lives: in.Lives, Failures: in.Failures, Losses: in.Losses,
	}
	l.text, l.birth, l.removed, l.stale, l.ooms = in.Text, in.Birth, in.Removed, in.Stale, in.OOMs
	l.shown, l.changed, l.began, l.ready = p, in.Changed, in.FirstAt, in.FirstUp
	l.left = in.Clients
	return l.take(in, files)
}

// take takes the descriptors of a life over.
func (l *life) take(in *savedService, files descriptors) error {
	for i, n := range in.Sockets {
		name := in.Spec.Name
		if i < len(in.Spec.Listen.Sockets) {
			name = in.Spec.Listen.Sockets[i].Network + ":" + in.Spec.Listen.Sockets[i].Address
		}
		f, err := files.held(n, name)
		if err != nil {
			return err
		}
		l.sockets = append(l.sockets, f)
	}
	for _, st := range in.Stored {
		f, err := files.held(st.File, st.Name)
		if err != nil {
			return err
		}
		l.stored = append(l.stored, stored{st.Name, f})
	}
	if in.Pipe != nil {
		fd, err := files.at(*in.Pipe)
		if err != nil {
			return err
		}
		l.pipe = os.NewFile(uintptr(fd), "readiness") // read with deadlines: the poller's
	}
	return nil
}
