package supervise

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"resinos/services/notify"
)

// note is a readiness message with what was found out about its sender while it still lived.
type note struct {
	from    notify.Sender
	group   string // the service whose cgroup it is in, where there are groups
	session int    // the session it is in, where there are none
	message notify.Message
}

// accept looks the sender up at once and hands the message to the loop. Descriptors are not kept.
func (s *Supervisor) accept(ctx context.Context) func(notify.Sender, notify.Message, []*os.File) {
	return func(from notify.Sender, m notify.Message, files []*os.File) {
		for _, f := range files {
			f.Close() // not ours to use
		}
		n := note{from: from, message: m}
		if s.cfg.Cgroups != nil {
			n.group = s.cfg.Cgroups.Owner(from.PID)
		} else {
			n.session = session(from.PID)
		}
		select {
		case s.notes <- n:
		case <-ctx.Done():
		}
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
		s.log.Warn("notification refused", "pid", n.from.PID, "error", "sender belongs to no service")
		return
	}
	m, at := n.message, time.Now()
	if m.HasStatus {
		s.lives[i].text = m.Status
	}
	if m.MainPID != 0 && m.MainPID != s.world.svcs[i].pid {
		s.log.Warn("notification refused", "service", s.name(i), "pid", n.from.PID, "error", "another main process is not followed")
	}
	if m.Extend > 0 {
		s.do(s.world.feed(at, i, input{extend: m.Extend}))
	}
	if m.Ready {
		s.do(s.world.feed(at, i, input{event: ready}))
	}
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

// session returns the session id of a living process, 0 if it cannot be told.
func session(pid int) int {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// pid (name) state ppid pgrp session …; the name may hold spaces and brackets, so look from its end.
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 4 {
		return 0
	}
	id, err := strconv.Atoi(fields[3])
	if err != nil {
		return 0
	}
	return id
}
