package reach

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// Penalty is what the metric of a default route grows by while its link has lost its priority.
const Penalty = 20000

// Standing is what the decision which links lose their priority depends on.
type Standing struct {
	Index, Metric int
	Demoted       bool
	Good          bool // it has answered
}

func (s Standing) trusted() bool { return s.Good && !s.Demoted }

// Penalised returns the links that lose their priority: those that are demoted, if there is one that can be trusted. If
// there is none, the order stays as the owner wants it.
func Penalised(all []Standing) map[int]bool {
	out := map[int]bool{}
	if !slices.ContainsFunc(all, Standing.trusted) {
		return out
	}
	for _, s := range all {
		if s.Demoted {
			out[s.Index] = true
		}
	}
	return out
}

// Roles returns the role of each link.
func Roles(all []Standing) map[int]Role {
	out := map[int]Role{}
	var used *Standing
	for i, s := range all {
		out[s.Index] = Standby
		if !s.Demoted && (used == nil || s.before(*used)) {
			used = &all[i]
		}
	}
	if len(all) == 1 {
		out[all[0].Index] = Alone
	} else if used != nil && slices.ContainsFunc(all, func(s Standing) bool { return s != *used && s.trusted() }) {
		out[used.Index] = InUse
	}
	return out
}

func (s Standing) before(other Standing) bool {
	return cmp.Or(cmp.Compare(s.Metric, other.Metric), cmp.Compare(s.Index, other.Index)) < 0
}

// result is what a probe found, on its way to the goroutine that owns the Set.
type result struct {
	index int
	round int
	Finding
}

// Set asks about all uplinks. Its methods belong to one goroutine, which calls Tick at Deadline.
type Set struct {
	events  chan<- func(time.Duration) // what is sent runs in the goroutine that owns the Set
	changed func(at time.Duration)     // a link has lost its priority or has got it back
	target  Target
	links   map[int]*member
	gone    map[int]*member // links that broke and are no uplinks now
	log     *slog.Logger
	probe   func(context.Context, Uplink, Target) Finding
	ctx     context.Context // ends with Close
	stop    func()
	tasks   sync.WaitGroup
}

type member struct {
	Machine
	uplink Uplink
	round  int // counts the networks that the link has been on: an answer from an earlier one is dropped
}

// NewSet returns a Set that asks nothing before Update, and only gateways before Retarget. What a probe found is sent
// to events, to run in the goroutine that owns the Set; changed is called there when a link has lost its priority or
// has got it back because of it.
func NewSet(events chan<- func(time.Duration), changed func(at time.Duration), log *slog.Logger) *Set {
	s := &Set{events: events, changed: changed, links: map[int]*member{}, gone: map[int]*member{}, log: log,
		probe: Probe, target: Target{Interval: defaultInterval}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Close ends all probes and waits for them.
func (s *Set) Close() {
	s.stop()
	s.tasks.Wait()
}

// Retarget changes what is asked. It returns whether a link has lost its priority or has got it back.
func (s *Set) Retarget(now time.Duration, t Target) bool {
	if t == s.target {
		return false
	}
	before := s.Penalised()
	s.target = t
	for _, m := range s.links {
		m.round++
		m.Renew(now, t.Interval)
	}
	return !maps.Equal(before, s.Penalised())
}

// Update takes what uplinks there are now. One that has come to another network begins again. It returns whether a link
// has lost its priority or has got it back.
func (s *Set) Update(now time.Duration, uplinks []Uplink) bool {
	before, old := s.Penalised(), s.links
	s.links = map[int]*member{}
	var moved []*member
	for _, u := range uplinks {
		m := old[u.Index]
		if m == nil {
			m = s.gone[u.Index]
			delete(s.gone, u.Index)
		}
		if m == nil || m.uplink.Name != u.Name {
			m = &member{Machine: Machine{interval: s.target.Interval}}
		}
		if !m.uplink.same(u) || old[u.Index] == nil {
			moved = append(moved, m)
		}
		m.uplink, m.interval = u, s.target.Interval
		s.links[u.Index] = m
	}
	s.leave(old)
	for _, m := range moved {
		m.round++
		m.Begin(now, s.trusted(m))
	}
	s.settle(now)
	return !maps.Equal(before, s.Penalised())
}

// maxGone limits how many links are remembered that are no uplinks now.
const maxGone = 16

// leave remembers the links that are no uplinks any more: one that broke has to prove itself when it returns.
func (s *Set) leave(old map[int]*member) {
	for index, m := range old {
		if s.links[index] == nil && m.proof > 0 && len(s.gone) < maxGone {
			m.round++
			s.gone[index] = m
		}
	}
}

// trusted reports whether another link than m can be used.
func (s *Set) trusted(m *member) bool {
	for _, other := range s.links {
		if other != m && other.last.State.good() && !other.demoted {
			return true
		}
	}
	return false
}

// Deadline returns when Tick has something to do; 0: never.
func (s *Set) Deadline() time.Duration {
	var first time.Duration
	if s.target.Off {
		return 0
	}
	for _, m := range s.links {
		if at := m.Deadline(); at != 0 && (first == 0 || at < first) {
			first = at
		}
	}
	return first
}

// Tick starts the probes that are due.
func (s *Set) Tick(now time.Duration) {
	if s.target.Off {
		return
	}
	for index, m := range s.links {
		if !m.Ask(now) {
			continue
		}
		u, t, round := m.uplink, s.target, m.round
		s.tasks.Go(func() {
			r := result{index, round, s.probe(s.ctx, u, t)}
			select {
			case s.events <- func(at time.Duration) { s.take(at, r) }:
			case <-s.ctx.Done():
			}
		})
	}
}

func (s *Set) take(now time.Duration, r result) {
	m := s.links[r.index]
	if m == nil || m.round != r.round {
		return
	}
	before, was := s.Penalised(), m.last.State
	if !r.State.good() {
		for index, other := range s.links {
			if index != r.index && m.last.State.good() {
				other.Hurry(now, 2*watchPace) // it may have to take over
			}
		}
	}
	m.Answer(now, r.Finding)
	s.settle(now)
	if m.last.State != was {
		s.log.Info("reach of link", "link", m.uplink.Name, "state", m.last.State.String(), "was", was.String(),
			"reason", m.last.Reason)
	}
	after := s.Penalised()
	for index := range s.links {
		if before[index] != after[index] {
			message := "priority of link restored"
			if after[index] {
				message = "priority of link lost"
			}
			s.log.Info(message, "link", s.links[index].uplink.Name)
		}
	}
	if !maps.Equal(before, after) {
		s.changed(now)
	}
}

// settle gives each link its role.
func (s *Set) settle(now time.Duration) {
	for index, role := range Roles(s.standings()) {
		s.links[index].Become(now, role)
	}
}

func (s *Set) standings() []Standing {
	var out []Standing
	for _, index := range slices.Sorted(maps.Keys(s.links)) {
		m := s.links[index]
		out = append(out, Standing{index, m.uplink.Metric, m.demoted, m.last.State.good()})
	}
	return out
}

// Penalised returns the links that have lost their priority, by index.
func (s *Set) Penalised() map[int]bool {
	if s.target.Off {
		return nil
	}
	return Penalised(s.standings())
}

// Finding returns what is known of a link.
func (s *Set) Finding(index int) Finding {
	if m := s.links[index]; m != nil && !s.target.Off {
		return m.last
	}
	return Finding{}
}
