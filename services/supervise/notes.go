package supervise

import (
	"resinos/services/proc"
	"resinos/services/supervise/handle"
	"resinos/services/supervise/lifecycle"
	"resinos/services/supervise/notification"
)

// takeNotes handles the messages that were received before now: what a service said before its end counts.
func (s *Supervisor) takeNotes() {
	for {
		select {
		case n := <-s.inbox.C():
			s.note(n)
		default:
			return
		}
	}
}

// note handles a message of a service.
func (s *Supervisor) note(n notification.Note) {
	i, ok := n.Owner(s.index, s.world.Services)
	if !ok {
		s.inbox.Refuse(n)
		return
	}
	h, sp := s.handles[i], &s.world.Specs[i]
	for _, err := range h.Faults.Next(n.Message) {
		s.log.Warn("line of a notification ignored", "service", sp.Name, "error", err)
	}
	if refused := h.Descriptors.Store(n.Message, n.Files, sp.FDStore); refused > 0 {
		s.log.Warn("descriptors not kept: fd-store allows no more", "service", sp.Name, "count", refused, "limit",
			sp.FDStore)
	}
	if s.world.Services[i].Phase == lifecycle.Armed && sp.ListenStored {
		s.startListening(i) // these were its last words
	}
	if n.Message.HasStatus {
		h.Text = n.Message.Status
	}
	if pid := n.Message.MainPID; pid != 0 && pid != s.world.Services[i].PID {
		s.follow(i, pid)
	}
	for _, in := range n.Inputs() {
		s.feed(i, in)
	}
}

// follow makes another process of service i its main process (MAINPID=). It must be in the cgroup of the service, or a
// service could name a process that is not its own.
func (s *Supervisor) follow(i, pid int) {
	h := s.handles[i]
	refuse := func(why string) {
		s.log.Warn("main process not followed", "service", s.name(i), "pid", pid, "error", why)
	}
	if s.groups.Owner(pid) != s.name(i) {
		refuse("it is not in the service's cgroup")
		return
	}
	p, err := s.cfg.Reaper.Adopt(pid, 0, func(st proc.Status) { s.exits.Add(handle.Exit{Handle: h, Status: st}) })
	if err != nil {
		refuse(err.Error())
		return
	}
	h.Started(p)
	s.log.Info("main process followed", "service", s.name(i), "pid", pid)
	s.feed(i, lifecycle.Input{PID: pid})
}
