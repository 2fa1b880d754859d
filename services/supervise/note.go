package supervise

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"resinos/services/notify"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
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
		n := note{from: from, message: m, files: files, group: s.groups.Owner(from.PID), session: s.groups.Session(from.PID)}
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

// stores says how many descriptors the services may leave with us, by name.
type stores struct {
	of   map[string]int
	most int
}

func storesOf(specs []spec.Spec) *stores {
	all := &stores{of: map[string]int{}}
	for i := range specs {
		if n := specs[i].FDStore; n > 0 {
			all.of[specs[i].Name], all.most = n, max(all.most, n)
		}
	}
	return all
}

// mayStore tells the receiver of notes how many descriptors a sender may leave with us. Without cgroups it cannot tell services
// apart: then it is what some service may, and store closes what is too much.
func (s *Supervisor) mayStore(from notify.Sender) int {
	all := s.stores.Load()
	if !s.groups.Cgroups() {
		return all.most
	}
	return all.of[s.groups.Owner(from.PID)]
}

// refusals bounds the lines about notifications that are refused: anybody on the device may send them.
type refusals struct {
	mu     sync.Mutex // guards the rest: the receiver and the loop refuse
	since  time.Time  // when the lines began to be counted
	said   int
	silent int // refused without a line since then
}

const (
	refusalsSaid  = 10 // lines in a …
	refusalsEvery = time.Minute
)

// next counts a refusal. It reports whether it may be logged, and how many were not since the last that was.
func (r *refusals) next(now time.Time) (say bool, silent int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.since) >= refusalsEvery {
		r.since, r.said = now, 0
	}
	if r.said >= refusalsSaid {
		r.silent++
		return false, 0
	}
	r.said++
	silent, r.silent = r.silent, 0
	return true, silent
}

func (s *Supervisor) refuse(from notify.Sender, err error) {
	say, silent := s.odd.next(time.Now())
	switch {
	case say && silent > 0:
		s.log.Warn("notification refused, and others before it", "pid", from.PID, "count", silent, "error", err)
	case say:
		s.log.Warn("notification refused", "pid", from.PID, "error", err)
	}
}

// mostOdd bounds the kinds of odd lines that are told of one service.
const mostOdd = 16

// ignored warns of each line of a service's message that says nothing, once for each name.
func (s *Supervisor) ignored(i int, m notify.Message) {
	l := s.lives[i]
	for _, err := range m.Ignored {
		name, _, _ := strings.Cut(err.Error(), "=")
		if slices.Contains(l.odd, name) || len(l.odd) >= mostOdd {
			continue
		}
		l.odd = append(l.odd, name)
		s.log.Warn("line of a notification ignored", "service", s.name(i), "error", err)
	}
}

// note hands a message to the service that its sender belongs to: it is the main process, or
// lives in the service's cgroup, or, without groups, in its session. Anybody else is a stranger.
func (s *Supervisor) note(n note) {
	i, ok := s.owner(n)
	if !ok {
		closeAll(n.files)
		s.refuse(n.from, errors.New("sender belongs to no service"))
		return
	}
	m, l := n.message, s.lives[i]
	s.ignored(i, m)
	if refused := l.descriptors.Store(m, n.files, s.world.Specs[i].FDStore); refused > 0 {
		s.log.Warn("descriptors not kept: fd-store allows no more", "service", s.name(i), "count", refused, "limit", s.world.Specs[i].FDStore)
	}
	if m.HasStatus {
		l.text = m.Status
	}
	if m.MainPID != 0 && m.MainPID != s.world.Services[i].PID {
		s.follow(i, n)
	}
	for _, in := range said(m) {
		s.feed(i, in)
	}
}

// said turns a message into what it means for the life of its service, in the order in which it
// must be heard.
func said(m notify.Message) []lifecycle.Input {
	var list []lifecycle.Input
	if m.Extend > 0 {
		list = append(list, lifecycle.Input{Extend: m.Extend})
	}
	if m.Reloading {
		list = append(list, lifecycle.Input{Reloading: true})
	}
	if m.Ready {
		list = append(list, lifecycle.Input{Event: lifecycle.Ready})
	}
	if m.Watchdog {
		list = append(list, lifecycle.Input{Alive: true})
	}
	if m.Stopping {
		list = append(list, lifecycle.Input{Event: lifecycle.Quits})
	}
	if m.Trigger {
		list = append(list, lifecycle.Input{Event: lifecycle.Sick, Why: "asked for the watchdog itself"})
	}
	return list
}

// follow takes another process of the service for its main one (MAINPID=). It must live in the
// service's group: a pid that a message claims is otherwise a stranger's.
func (s *Supervisor) follow(i int, n note) {
	pid, l := n.message.MainPID, s.lives[i]
	refuse := func(why string) {
		s.log.Warn("main process not followed", "service", s.name(i), "pid", pid, "error", why)
	}
	if s.groups.Owner(pid) != s.name(i) {
		refuse("it is not in the service's cgroup")
		return
	}
	p, err := s.cfg.Reaper.Adopt(pid, 0, func(st proc.Status) { s.exits.Add(death{l, st, false}) })
	if err != nil {
		refuse(err.Error())
		return
	}
	l.process = p
	l.birth, _ = proc.StartTime(pid) // 0 when it is dead already: its exit is on its way
	s.log.Info("main process followed", "service", s.name(i), "pid", pid)
	s.feed(i, lifecycle.Input{PID: pid})
}

func (s *Supervisor) owner(n note) (int, bool) {
	if n.from.PID <= 1 {
		return 0, false // from outside our pid namespace, or from ourselves
	}
	if n.group != "" {
		i, ok := s.index[n.group]
		return i, ok && s.world.Services[i].PID != 0
	}
	for i := range s.world.Services {
		if pid := s.world.Services[i].PID; pid != 0 && (pid == n.from.PID || pid == n.session) {
			return i, true
		}
	}
	return 0, false
}
