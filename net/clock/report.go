package clock

import (
	"fmt"
	"time"

	"resinos/net/clockstatus"
)

// Status describes the machine. The caller adds Start and the process.
func (m *Machine) Status(r Reading) clockstatus.Status {
	ppm, _ := m.filter.Rate()
	s := clockstatus.Status{
		Synchronised: m.synced, Since: m.since.Seconds(), By: m.leader, Offset: m.offset.Seconds(),
		Bound: m.distance.Seconds(),
		PPM:   ppm, Heard: m.heard.Seconds(), Poll: m.poll.Seconds(), Next: m.next.Seconds(), Trouble: m.trouble,
		LastStep: m.last, Steps: m.steps, Servers: []clockstatus.Server{},
	}
	switch {
	case m.jumped:
		s.Origin = clockstatus.FromHand
	case m.ever:
		s.Origin = clockstatus.FromNTP
	}
	ours := r.Real.Sub(r.Raw)
	for _, p := range m.peers {
		one := clockstatus.Server{Name: p.Name, From: p.From, State: p.state, Why: p.why, Heard: p.heard.Seconds(),
			Reach: fmt.Sprintf("%08b", p.reach)}
		if p.addr.IsValid() {
			one.Address = p.addr.String()
		}
		if p.heard != 0 {
			one.Stratum, one.Delay, one.Bound = p.last.Stratum, p.last.Delay.Seconds(), p.last.distance().Seconds()
			one.Offset = (p.last.Offset - ours).Seconds()
		}
		if p.Name == m.leader {
			s.Address, s.Stratum = one.Address, one.Stratum
		}
		s.Servers = append(s.Servers, one)
	}
	return s
}

// seconds converts a number of a Status back.
func seconds(s float64) time.Duration {
	if s < 0 || s > 9e9 {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}
