package sshd

import (
	"time"

	"resinos/services/notify"
)

// until is when accept has something else to do than to wait for a connection: give a sign of life, or leave because nobody is here.
// Zero is never.
func (s *server) until(alive *notify.Pulse) time.Time {
	at := alive.Until()
	if s.cfg.Idle == 0 {
		return at
	}
	if leave := s.door.emptySince(time.Now()).Add(s.cfg.Idle); at.IsZero() || leave.Before(at) {
		at = leave
	}
	return at
}
