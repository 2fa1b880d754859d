package supervise

import (
	"context"
	"fmt"
	"os"

	"resinos/services/notify"
	"resinos/services/proc"
)

// note is a readiness message with what was found out about its sender while it still lived.
type note struct {
	from    notify.Sender
	group   string // the service whose cgroup it is in, where there are groups
	session int    // the session it is in, where there are none
	message notify.Message
	files   []*os.File // that came along; ours to close
}

// accept looks the sender up at once and hands the message to the loop.
func (s *Supervisor) accept(ctx context.Context) func(notify.Sender, notify.Message, []*os.File) {
	return func(from notify.Sender, m notify.Message, files []*os.File) {
		n := note{from: from, message: m, files: files}
		if s.cfg.Cgroups != nil {
			n.group = s.cfg.Cgroups.Owner(from.PID)
		} else {
			n.session = proc.Session(from.PID)
		}
		select {
		case s.notes <- n:
		case <-ctx.Done():
			closeAll(files)
		}
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close() // nothing of ours was written
	}
}

func (s *Supervisor) refuse(from notify.Sender, err error) {
	s.log.Warn("notification refused", "pid", from.PID, "error", err)
}

// note hands a message to the service that its sender belongs to: it is the main process, or
// lives in the service's cgroup, or, without groups, in its session. Anybody else is a stranger.
func (s *Supervisor) note(n note) {
	i, ok := s.owner(n)
	if !ok {
		closeAll(n.files)
		s.log.Warn("notification refused", "pid", n.from.PID, "error", "sender belongs to no service")
		return
	}
	m, l := n.message, s.lives[i]
	s.store(i, m, n.files)
	if m.HasStatus {
		l.text = m.Status
	}
	if m.MainPID != 0 && m.MainPID != s.world.svcs[i].pid {
		s.follow(i, n)
	}
	for _, in := range said(m) {
		s.feed(i, in)
	}
}

// said turns a message into what it means for the life of its service, in the order in which it
// must be heard.
func said(m notify.Message) []input {
	var list []input
	if m.Extend > 0 {
		list = append(list, input{extend: m.Extend})
	}
	if m.Reloading {
		list = append(list, input{reloading: true})
	}
	if m.Ready {
		list = append(list, input{event: ready})
	}
	if m.Watchdog {
		list = append(list, input{alive: true})
	}
	if m.Stopping {
		list = append(list, input{event: quits})
	}
	if m.Trigger {
		list = append(list, input{event: sick, why: "asked for the watchdog itself"})
	}
	return list
}

// store keeps the descriptors that a service leaves with us until its next start, and closes all
// others.
func (s *Supervisor) store(i int, m notify.Message, files []*os.File) {
	l := s.lives[i]
	if m.FDRemove {
		kept := l.stored[:0]
		for _, st := range l.stored {
			if st.name == m.FDName {
				st.file.Close() // given up by the service
				continue
			}
			kept = append(kept, st)
		}
		l.stored = kept
	}
	for _, f := range files {
		switch {
		case !m.FDStore || m.FDRemove:
			f.Close() // not ours to use
		case len(l.stored) >= s.world.specs[i].FDStore:
			f.Close() // there is no room for it
			s.log.Warn("descriptor not kept", "service", s.name(i), "error", fmt.Sprintf("fd-store is %d", s.world.specs[i].FDStore))
		default:
			name := m.FDName
			if name == "" {
				name = "stored"
			}
			l.stored = append(l.stored, stored{name, f})
		}
	}
}

// follow takes another process of the service for its main one (MAINPID=). It must live in the
// service's group: a pid that a message claims is otherwise a stranger's.
func (s *Supervisor) follow(i int, n note) {
	pid, l := n.message.MainPID, s.lives[i]
	refuse := func(why string) {
		s.log.Warn("main process not followed", "service", s.name(i), "pid", pid, "error", why)
	}
	if s.cfg.Cgroups == nil || s.cfg.Cgroups.Owner(pid) != s.name(i) {
		refuse("it is not in the service's cgroup")
		return
	}
	p, err := s.cfg.Reaper.Adopt(pid, 0, func(st proc.Status) { s.mail.exit(death{l, st, false}) })
	if err != nil {
		refuse(err.Error())
		return
	}
	l.process = p
	l.birth, _ = proc.StartTime(pid) // 0 when it is dead already: its exit is on its way
	s.log.Info("main process followed", "service", s.name(i), "pid", pid)
	s.feed(i, input{pid: pid})
}

func (s *Supervisor) owner(n note) (int, bool) {
	if n.from.PID <= 1 {
		return 0, false // from outside our pid namespace, or from ourselves
	}
	if n.group != "" {
		i, ok := s.index[n.group]
		return i, ok && s.world.svcs[i].pid != 0
	}
	for i := range s.world.svcs {
		if pid := s.world.svcs[i].pid; pid != 0 && (pid == n.from.PID || pid == n.session) {
			return i, true
		}
	}
	return 0, false
}
