package clock

import (
	"fmt"
	"math"
	"slices"
	"time"

	"resinos/net/clockstatus"
)

// conclude ends a round: the answers vote, and the winners correct the clock.
func (m *Machine) conclude(r Reading) []Action {
	m.asking = false
	actions, agreed := m.vote(r)
	if agreed {
		m.failures, m.trouble = 0, ""
	} else if m.burst <= 1 { // within a burst, pauses do not become longer
		m.failures++
	}
	m.next = r.Boot + m.wait(agreed)
	if at, resting := m.resting(); resting {
		m.next = max(m.next, at) // no server may be asked before
	}
	return append(actions, m.age(r)...)
}

// wait is the time until the next round.
func (m *Machine) wait(agreed bool) time.Duration {
	if m.burst > 0 {
		m.burst--
	}
	switch {
	case m.burst > 0:
		return m.spread(burstPause)
	case !agreed || m.doubts > 0:
		longest := lastRetry
		switch {
		case m.synced && m.doubts == 0:
			longest = m.poll
		case !m.synced && !m.answered():
			longest = silence
		}
		shortest := firstRetry
		if m.synced {
			shortest = firstPoll
		}
		return m.spread(min(shortest<<min(m.failures, 12), longest))
	}
	return m.spread(m.poll)
}

// answered reports whether any server has answered in the last round, even if the answer was useless.
func (m *Machine) answered() bool {
	return slices.ContainsFunc(m.peers,
		func(p *peer) bool { return p.state != clockstatus.Silent && p.state != clockstatus.Unresolved })
}

// resting reports whether no peer may be asked now, and until when.
func (m *Machine) resting() (time.Duration, bool) {
	first := time.Duration(0)
	for _, p := range m.peers {
		if first == 0 || p.after < first {
			first = p.after
		}
		if p.after == 0 {
			return 0, false
		}
	}
	return first, first != 0
}

// vote reports whether the answers agree, and if so corrects the clock.
func (m *Machine) vote(r Reading) ([]Action, bool) {
	var voters []*peer
	var list []Candidate
	known := 0
	for _, p := range m.peers {
		if p.addr.IsValid() {
			known++
		}
		if p.answer {
			voters, list = append(voters, p), append(list, p.candidate())
		}
	}
	if len(list) == 0 {
		m.trouble = "no server answers"
		return nil, false
	}
	span, ok := Select(list)
	if !ok {
		m.trouble = fmt.Sprintf("%d servers answer, and no majority agrees", len(list))
		return nil, false
	}
	var won []*peer
	for i, p := range voters {
		if span.Within(list[i]) {
			p.rule(clockstatus.Used, "")
			p.answer = true
			won = append(won, p)
			continue
		}
		p.rule(clockstatus.FalseTicker, "it is "+short(distanceTo(list[i].Offset, span))+" off the majority")
	}
	// At first a single answer is enough only if there is only one server, or the others have had their chance.
	if !m.ever && len(won) == 1 && known > 1 && m.tried < burst-1 {
		m.trouble = "only one server has answered so far"
		return nil, false
	}
	return m.believe(r, won)
}

func distanceTo(offset time.Duration, s Span) time.Duration {
	return (offset - s.Low/2 - s.High/2).Abs()
}

// believe updates the filter with the mean of the winners, weighted by how exact they are.
func (m *Machine) believe(r Reading, won []*peer) ([]Action, bool) {
	first := won[0]
	var weights, sum, spread float64
	at := won[0].last.At
	for _, p := range won {
		if p.last.distance() < first.last.distance() || p.Name == m.leader {
			first = p
		}
		w := 1 / (p.last.sigma() * p.last.sigma())
		weights += w
		sum += w * (p.last.Offset - won[0].last.Offset).Seconds()
		if p.last.At.After(at) {
			at = p.last.At
		}
	}
	mean := sum / weights
	for _, p := range won {
		d := (p.last.Offset - won[0].last.Offset).Seconds() - mean
		spread += d * d / float64(len(won)*len(won))
	}
	offset := won[0].last.Offset + time.Duration(mean*1e9)
	sigma := math.Sqrt(1/weights + spread)

	by, deviation := m.filter.Surprise(at, offset, sigma)
	if math.Abs(by) > max(4*deviation, 1e-3) {
		// A difference that delays can have hidden, now or before, is no contradiction: the earlier estimate was then
		// less exact than it claimed.
		hidden := m.bound(r.Boot) + first.last.distance()
		if math.Abs(by) > hidden.Seconds() && !m.convinced(r) {
			m.poll = firstPoll
			m.trouble = fmt.Sprintf("the servers suddenly say %s, which they have to repeat first", signed(by))
			return nil, true // they agree, but the clock does not yet
		}
		m.filter.Loosen(by)
	}
	m.filter.Update(at, offset, sigma)
	m.heard, m.distance, m.leader = r.Boot, first.last.distance(), first.Name
	if !m.ever && first.last.distance() > nearby && m.tried < burst-1 {
		// A device that boots is busy and processes answers late. The second question gives a better result, and one
		// step is enough.
		m.trouble = "the servers answer so slowly that they are asked again first"
		return nil, false
	}
	if m.burst <= 1 {
		m.pace(at, by, deviation, sigma)
	}
	return m.correct(r), true
}

// convinced counts rounds in which a majority contradicted the filter, as when the servers themselves were set. After a
// quarter of an hour the majority is believed, and the filter begins again.
func (m *Machine) convinced(r Reading) bool {
	if m.filter.Empty() {
		return true
	}
	if m.doubts == 0 {
		m.doubtedAt = r.Boot
	}
	m.doubts++
	if m.doubts < doubtTimes || r.Boot-m.doubtedAt < doubtSpan {
		return false
	}
	m.filter.Reset()
	m.farAt, m.far = m.doubtedAt, m.doubts
	return true
}

// pace doubles the time between rounds while the filter is exact enough for it, and halves it after a surprise.
func (m *Machine) pace(at time.Time, by, deviation, sigma float64) {
	_, ahead := m.filter.Offset(at.Add(2 * m.poll))
	switch surprised := math.Abs(by) > 3*deviation; {
	case surprised:
		m.poll = max(m.poll/2, firstPoll)
	case ahead < max(50e-3, 2*sigma):
		m.poll = min(m.poll*2, lastPoll)
	}
}

// correct steps or slews the system clock to the time of the filter.
func (m *Machine) correct(r Reading) []Action {
	estimate, sigma := m.filter.Offset(r.Raw)
	m.offset = r.Raw.Add(estimate).Sub(r.Real)
	ppm, _ := m.filter.Rate()
	m.doubts = 0
	if m.offset.Abs() > stepLater {
		if m.far++; m.far == 1 {
			m.farAt = r.Boot
		}
	} else {
		m.far = 0
	}
	insisted := m.far >= doubtTimes && r.Boot-m.farAt >= doubtSpan
	var actions []Action
	bound, rest := m.distance, m.offset
	switch {
	case !m.ever && rest.Abs() > stepFirst:
		actions = append(actions, m.step(r, rest, "first synchronisation"))
	case m.jumped && rest.Abs() > stepFirst:
		actions = append(actions, m.step(r, rest, "somebody else had set the clock"))
	case !m.synced && rest.Abs() > stepLater:
		actions = append(actions, m.step(r, rest, "synchronised again after a long time"))
	case insisted:
		actions = append(actions, m.step(r, rest, "it was far off for "+short(r.Boot-m.farAt)))
	default:
		bound += rest.Abs()
	}
	if len(actions) > 0 {
		rest, m.far = 0, 0
	}
	m.jumped = false
	actions = append(actions,
		Action{Verb: Slew, By: rest, PPM: ppm},
		Action{Verb: Mark, Bound: bound, Likely: time.Duration(sigma * 1e9)})
	if !m.synced {
		m.synced, m.since = true, r.Boot
		actions = append(actions, Action{Verb: Say, Name: m.leader, By: m.offset, Why: "clock synchronised"})
	}
	m.ever = true
	return actions
}

func (m *Machine) step(r Reading, by time.Duration, why string) Action {
	m.last = &clockstatus.StepTaken{At: r.Boot.Seconds(), By: by.Seconds(), Why: why}
	m.steps++
	return Action{Verb: Step, By: by, Why: why, Warn: m.ever}
}

// bound is the largest error that the clock can have by now.
func (m *Machine) bound(now time.Duration) time.Duration {
	return m.distance + time.Duration(float64(now-m.heard)*drift)
}

// age notices when no server has answered for so long that the clock can no longer be called synchronised: a bit more
// than a day.
func (m *Machine) age(r Reading) []Action {
	if !m.synced || m.bound(r.Boot) <= maxDistance {
		return nil
	}
	m.synced, m.since = false, r.Boot
	return []Action{
		{Verb: Mark},
		{Verb: Say, Warn: true, Why: "clock no longer synchronised"},
	}
}

// short prints a duration with three digits at most.
func short(d time.Duration) string {
	d = d.Abs()
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", (d+12*time.Hour)/(24*time.Hour))
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return fmt.Sprintf("%.2fs", d.Seconds())
	}
	return fmt.Sprintf("%.1fms", d.Seconds()*1000)
}

func signed(s float64) string {
	if s < 0 {
		return "-" + short(time.Duration(-s*1e9))
	}
	return "+" + short(time.Duration(min(s, 9e9)*1e9))
}
