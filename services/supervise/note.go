package supervise

import (
	"resinos/services/proc"
	"resinos/services/supervise/lifecycle"
	"resinos/services/supervise/notification"
)

// note hands a message to the service that its sender belongs to.
func (s *Supervisor) note(n notification.Note) {
	i, ok := n.Owner(s.index, s.world.Services)
	if !ok {
		s.inbox.Refuse(n)
		return
	}
	l, sp := s.lives[i], &s.world.Specs[i]
	for _, err := range l.faults.Next(n.Message) {
		s.log.Warn("line of a notification ignored", "service", sp.Name, "error", err)
	}
	if refused := l.descriptors.Store(n.Message, n.Files, sp.FDStore); refused > 0 {
		s.log.Warn("descriptors not kept: fd-store allows no more", "service", sp.Name, "count", refused, "limit", sp.FDStore)
	}
	if n.Message.HasStatus {
		l.text = n.Message.Status
	}
	if pid := n.Message.MainPID; pid != 0 && pid != s.world.Services[i].PID {
		s.follow(i, pid)
	}
	for _, in := range n.Inputs() {
		s.feed(i, in)
	}
}

// follow takes another process of the service for its main one (MAINPID=). It must live in the
// service's group: a pid that a message claims is otherwise a stranger's.
func (s *Supervisor) follow(i, pid int) {
	l := s.lives[i]
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
