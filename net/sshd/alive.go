package sshd

import (
	"time"

	"resinos/services/notify"
)

// until returns the time at which accept must stop waiting for a connection: to send a watchdog message, or to end
// because nobody is connected. Zero means never.
func (s *server) until(alive *notify.Pulse) time.Time {
	at := alive.Until()
	if s.cfg.Idle == 0 {
		return at
	}
	if leave := s.clients.emptySince(time.Now()).Add(s.cfg.Idle); at.IsZero() || leave.Before(at) {
		at = leave
	}
	return at
}
