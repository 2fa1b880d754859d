package reach

import "time"

// The timing of probes. A link in use that breaks right after an answer is noticed within
// watchPace + probeTime + retryPace + probeTime, which is below the 30 s in which another link has to take over.
const (
	probeTime   = 4 * time.Second // a probe never takes longer
	firstDelay  = 30 * time.Second
	watchPace   = 15 * time.Second // of the link in use, while another one could take over
	retryPace   = 2 * time.Second  // after the first silence of a link that has answered before
	missLimit   = 2                // silences in a row after which a link counts as broken
	brokenPace  = 5 * time.Second  // after a link has broken, doubled up to one of the next two
	brokenMax   = time.Minute      // while there is another uplink
	aloneMax    = 5 * time.Minute
	firstProof  = 10 * time.Second // how long a link that broke has to answer before it gets its priority back
	maxProof    = 10 * time.Minute // the time doubles with each time that it breaks again
	forgetAfter = 30 * time.Minute // without a break, the next one begins with firstProof again
)

// Role is what depends on the answer.
type Role uint8

// The roles.
const (
	Alone   Role = iota // it is the only uplink: nothing depends on the answer
	Standby             // others are used, or no other one could take over
	InUse               // it is used, and another one could take over
)

// Machine decides when one uplink is asked, and whether it keeps its priority: a pure step function of its methods. It
// belongs to one goroutine; each instant is the time since kernel start.
//
//	        good                    bad, missLimit times in a row
//	fresh ────────> trusted ──────────────────────────────────────> demoted
//	  │                ^                                              │  ^
//	  │ bad            └── good, for as long as the proof takes ──────┘  │
//	  └──────────────────────────────────────────────────────────────────┘
//
// A fresh link has its priority, unless another link is known to be good (Begin).
type Machine struct {
	interval time.Duration // between two questions to which nothing depends on the answer
	role     Role

	last    Finding // the last answer that counts
	demoted bool
	misses  int           // bad answers in a row
	good    time.Duration // since when all answers are good; 0: the last one was bad
	proof   time.Duration // how long they have to be before the link is trusted; 0: it never broke
	broke   time.Duration // when it was demoted last
	asked   time.Duration // when the last answer came; 0: never
	next    time.Duration // when to ask; 0: never
	asking  bool
}

// Finding returns what is known of the link.
func (m *Machine) Finding() Finding { return m.last }

// Demoted reports whether the link is not to be used while there is another one.
func (m *Machine) Demoted() bool { return m.demoted }

// Begin forgets what is known, because the link has come to another network or has only now got an address. other says
// that another link is known to be good: this one then has to answer before it is used. So has one that broke
// shortly before.
func (m *Machine) Begin(now time.Duration, other bool) {
	m.last, m.misses, m.good, m.asked, m.asking = Finding{}, 0, 0, 0, false
	m.forget(now)
	m.demoted = other || m.proof > 0
	m.next = now + firstDelay
	if m.role != Alone {
		m.next = now
	}
}

// Become changes the role of the link. A question that has become important is asked at once.
func (m *Machine) Become(now time.Duration, r Role) {
	if m.role == r {
		return
	}
	m.role = r
	switch {
	case m.asking || m.next == 0:
	case m.asked == 0 && r != Alone:
		m.next = now
	case m.asked != 0:
		m.next = max(m.asked+m.pace(), now)
	}
}

// Renew has a link asked now that was asked before, because the question is another one. An answer that is on its way
// must not be given to Answer any more.
func (m *Machine) Renew(now, interval time.Duration) {
	m.interval = interval
	if m.asked != 0 || m.asking {
		m.next = now
	}
	m.asking = false
}

// Hurry has the link asked now if the last answer is older than age.
func (m *Machine) Hurry(now, age time.Duration) {
	if m.next != 0 && (m.asked == 0 || now-m.asked > age) {
		m.next = min(m.next, now)
	}
}

// Deadline returns when the link is to be asked; 0: never, or it is being asked.
func (m *Machine) Deadline() time.Duration {
	if m.asking {
		return 0
	}
	return m.next
}

// Ask reports whether the link is to be asked now. Then Answer must follow.
func (m *Machine) Ask(now time.Duration) bool {
	if m.asking || m.next == 0 || now < m.next {
		return false
	}
	m.asking = true
	return true
}

// Answer takes what a probe found.
func (m *Machine) Answer(now time.Duration, f Finding) {
	m.asking, m.asked = false, now
	if f.State.good() {
		m.praise(now, f)
	} else {
		m.blame(now, f)
	}
	m.next = now + m.pace()
	if left := m.good + m.proof - now; m.demoted && m.good != 0 {
		m.next = min(m.next, now+max(left, time.Second))
	}
}

func (m *Machine) praise(now time.Duration, f Finding) {
	m.last, m.misses = f, 0
	if m.good == 0 {
		m.good = now
	}
	if now-m.good >= m.proof {
		m.demoted = false
		m.forget(now)
	}
}

func (m *Machine) blame(now time.Duration, f Finding) {
	m.misses++
	m.good = 0
	if m.last.State.good() && m.misses < missLimit {
		return // one lost answer says nothing
	}
	m.last = f
	if m.demoted && m.proof > 0 {
		return
	}
	m.forget(now)
	m.proof = min(max(2*m.proof, firstProof), maxProof)
	m.demoted, m.broke = true, now
}

// forget ends the consequences of a break that was long ago.
func (m *Machine) forget(now time.Duration) {
	if m.proof > 0 && now-m.broke >= forgetAfter && (m.good == 0 || now-m.good >= m.proof) {
		m.proof = 0
	}
}

// pace returns the time from the last answer to the next question.
func (m *Machine) pace() time.Duration {
	switch {
	case m.misses > 0 && m.last.State.good():
		return min(retryPace, m.interval)
	case m.misses > 0:
		limit := brokenMax
		if m.role == Alone {
			limit = aloneMax
		}
		return min(brokenPace<<min(m.misses-1, 10), limit, max(m.interval, brokenPace))
	case m.demoted:
		return min(max(m.proof/4, retryPace), m.interval)
	case m.role == InUse:
		return min(watchPace, m.interval)
	}
	return m.interval
}
