// Package clock decides about the time: which of several time servers to believe, and how far off the clock of this
// device is.
//
// Its decisions are pure: no clock, file, network or system call. It never sets a clock and never speaks NTP (timed
// does both). Package savedtime decides on the time at which a boot begins.
//
// Read first: Machine, then Select, then Filter.
package clock

import (
	"net/netip"
	"slices"
	"time"

	"resinos/net/clockstatus"
	"resinos/net/savedtime"
)

// Reading is the values of the clocks at one moment.
type Reading struct {
	Boot time.Duration // since the kernel started: timers use it
	Raw  time.Time     // a clock that nobody sets or slews; its origin is arbitrary
	Real time.Time     // the system clock, which is to be corrected
}

// Source is a server to ask.
type Source struct {
	Name string // host name or address
	From string // where it is configured: default, config, dhcp
}

// Sample is a server's answer.
type Sample struct {
	At             time.Time     // raw time of the middle of the exchange
	Offset         time.Duration // the server's time minus the raw clock
	Delay          time.Duration // of the round trip
	RootDelay      time.Duration // of the server to its reference clock
	RootDispersion time.Duration
	Stratum        int
}

// distance is the largest possible error of the sample (RFC 5905, appendix A.5.5.2).
func (s Sample) distance() time.Duration {
	return max(minDistance, s.Delay/2+s.RootDelay/2+s.RootDispersion)
}

// sigma is the usual error of the sample, in seconds. The asymmetry of the path can be up to half of the delay, but
// most paths are more symmetric.
func (s Sample) sigma() float64 {
	return 100e-6 + (s.Delay/8 + s.RootDelay/16 + s.RootDispersion/8).Seconds()
}

// Verb is the kind of an Action.
type Verb uint8

// The verbs.
const (
	Resolve Verb = iota // find the addresses of Name, then call Resolved
	Ask                 // ask the server Name at Address, then call Heard
	Step                // set the system clock forward by By
	Slew                // let the system clock run PPM faster than by itself, and remove the offset By in addition
	// tell the kernel that the clock is right to Bound, or, if that is 0, that it is not known to be
	Mark
	Say // report Why to people; Warn: they should act
)

// Action is one thing that a Machine asks timed to do.
type Action struct {
	Verb    Verb
	Name    string
	Address netip.Addr
	Round   int
	By      time.Duration
	PPM     float64
	Bound   time.Duration
	Likely  time.Duration // of the error: its standard deviation
	Warn    bool
	Why     string
}

// The parameters of Machine.
const (
	minDistance = 5 * time.Millisecond    // RFC 5905: MINDISP
	maxDistance = 1500 * time.Millisecond // MAXDIST: a server, or a device, that may be this wrong is not synchronised
	drift       = 15e-6                   // PHI: by how much the error may grow in a second without servers

	burst      = 4               // rounds at the start
	burstPause = 4 * time.Second // public servers refuse clients that ask more often
	firstPoll  = 64 * time.Second
	lastPoll   = 1 << 14 * time.Second // 4.5 h
	firstRetry = 8 * time.Second
	lastRetry  = 256 * time.Second // while servers disagree, or the estimate is in doubt
	// while the clock is not known to be right and no server answers; with a round it is less than a minute
	silence  = 40 * time.Second
	patience = 8 * time.Second // for a round: resolving names takes time
	grace    = 2 * time.Second // for the others, after one has answered

	nearby     = 100 * time.Millisecond // of a server's distance: at first a farther one is asked three times
	stepFirst  = 500 * time.Millisecond // of an error: at first a smaller one is slewed
	stepLater  = time.Second            // later a smaller one is slewed, in up to 2000 s
	doubtSpan  = 15 * time.Minute       // time for which the servers must insist on a surprising time
	doubtTimes = 4

	maxSources = 16
)

// Machine decides which servers to ask and when, which to believe, and what to do with the clock. Its methods return
// the actions to carry out. Each may be called at any time; Timer must be called at Deadline.
//
//	 Servers, Online ──> burst ──> round: Resolve, Ask ──> Resolved, Heard ──┐
//	   ▲                             ▲                                        ▼
//	   │                             │ 64 s … 4.5 h            Select: is there a majority?
//	Jumped: somebody set the clock   │                          │ yes                │ no
//	                                 │                        Filter ──> Step, Slew  │
//	                                 └────────────────────────────┴── wait ◀─────────┘
//
// The clock is stepped when it is first known to be off by more than half a second; later only when it has been off by
// more than a second for a quarter of an hour, or when somebody else has set it. Everything else is slewed.
type Machine struct {
	build  time.Time
	random func() uint32
	peers  []*peer
	filter Filter

	round    int
	asking   bool
	roundEnd time.Duration // end of the running round
	next     time.Duration // when the next round begins; 0: no server to ask
	burst    int           // rounds left that follow immediately
	failures int           // rounds in a row without a majority, since a burst
	poll     time.Duration
	tried    int // rounds since the burst began

	synced    bool
	since     time.Duration // that it has been synced, or not
	ever      bool          // it was synchronised in this life or an earlier one of this boot
	jumped    bool          // somebody has set the clock since the last good round
	doubts    int           // rounds in a row whose majority was not believed
	doubtedAt time.Duration // the first of them
	farAt     time.Duration // the first of the good rounds in a row that found the clock far off; 0: none
	far       int

	heard    time.Duration // when the servers last agreed; 0: never
	distance time.Duration // of their answer then
	offset   time.Duration // of the system clock then, before the correction
	leader   string        // the server with the shortest distance
	trouble  string        // why the last round had no result
	last     *clockstatus.StepTaken
	steps    int
}

// New returns a machine without servers. random makes the waits of a fleet differ.
func New(build time.Time, random func() uint32) *Machine {
	return &Machine{build: build, random: random, poll: firstPoll}
}

// Adopt continues from what an earlier life of the daemon in the same boot left: its status, and the rate in ppm that
// the kernel still applies. A clock that was synchronised is not stepped as if for the first time.
func (m *Machine) Adopt(s clockstatus.Status, ppm float64) {
	m.last, m.steps, m.jumped = s.LastStep, s.Steps, s.Origin == clockstatus.FromHand
	if s.Synchronised {
		m.ever, m.synced, m.since = true, true, seconds(s.Since)
		m.heard, m.distance, m.leader = seconds(s.Heard), seconds(s.Bound), s.By
		m.filter.Assume(ppm*1e-6, 5e-6)
	}
}

// Deadline returns when Timer must be called; 0: never.
func (m *Machine) Deadline() time.Duration {
	if m.asking {
		return m.roundEnd
	}
	return m.next
}

// Busy reports whether a round is running.
func (m *Machine) Busy() bool { return m.asking }

// Servers replaces the list of sources. The list is cut at maxSources.
func (m *Machine) Servers(r Reading, list []Source) []Action {
	var peers []*peer
	news := false
	for _, s := range list[:min(len(list), maxSources)] {
		i := slices.IndexFunc(m.peers, func(p *peer) bool { return p.Source == s })
		if i >= 0 {
			peers = append(peers, m.peers[i])
			continue
		}
		news = true
		peers = append(peers, newPeer(s))
	}
	m.peers = peers
	switch {
	case len(peers) == 0:
		m.next, m.asking = 0, false
	case news:
		return m.hurry(r)
	case m.next == 0 && !m.asking:
		m.next = r.Boot
	}
	return m.settle(r)
}

// Online reports that the network is up or has changed: servers that did not answer may answer now.
func (m *Machine) Online(r Reading) []Action {
	if m.synced {
		return nil
	}
	return m.hurry(r)
}

// Jumped reports that somebody else has set the system clock forward by by. It is not synchronised until the servers
// have been asked. A clock before the build time is set back to it.
func (m *Machine) Jumped(r Reading, by time.Duration) []Action {
	known := m.heard != 0 && m.bound(r.Boot) <= maxDistance // the filter's estimate is still right
	actions := []Action{{Verb: Say, Warn: m.synced, By: by, Why: "clock set by somebody else"}, {Verb: Mark}}
	if m.synced {
		m.since = r.Boot
	}
	m.synced, m.jumped, m.trouble = false, true, "somebody has set the clock, and the servers have not answered since"
	if r.Real.Before(m.build) {
		back := r.Real.Add(-by)
		if known && !m.filter.Empty() {
			offset, _ := m.filter.Offset(r.Raw)
			back = r.Raw.Add(offset)
		}
		if back.Before(m.build) {
			back = m.build
		}
		actions = append(actions, m.step(r, back.Sub(r.Real), "it was set to before the image was built"))
	}
	return append(actions, m.hurry(r)...)
}

// Timer begins or ends a round.
func (m *Machine) Timer(r Reading) []Action {
	actions := m.age(r)
	switch {
	case m.asking && r.Boot >= m.roundEnd:
		for _, p := range m.peers {
			if p.waiting {
				p.silent("no answer in time")
			}
		}
		return append(actions, m.conclude(r)...)
	case !m.asking && m.next != 0 && r.Boot >= m.next:
		return append(actions, m.begin(r)...)
	}
	return actions
}

// hurry begins a burst, or lengthens the running one.
func (m *Machine) hurry(r Reading) []Action {
	m.burst, m.failures, m.tried = burst, 0, 0
	if m.asking || len(m.peers) == 0 {
		return nil
	}
	m.next = r.Boot
	return m.begin(r)
}

// begin asks every server that may be asked.
func (m *Machine) begin(r Reading) []Action {
	m.round++
	m.tried++
	m.asking, m.roundEnd = true, r.Boot+patience
	var actions []Action
	for _, p := range m.peers {
		if a, ask := p.begin(r.Boot, m.round); ask {
			actions = append(actions, a)
		}
	}
	return append(actions, m.settle(r)...)
}

// Resolved receives the addresses of a source's name, or the reason why there are none.
func (m *Machine) Resolved(r Reading, name string, round int, addrs []netip.Addr, fault string) []Action {
	var actions []Action
	for _, p := range m.peers {
		if p.Name != name || p.addr.IsValid() {
			continue
		}
		inTime := p.waiting && round == m.round && m.asking
		p.waiting = p.waiting && !inTime
		if !p.take(addrs, fault, m.peers, r.Boot) || !inTime {
			continue
		}
		p.waiting = true
		actions = append(actions, Action{Verb: Ask, Name: p.Name, Address: p.addr, Round: round})
	}
	return append(actions, m.settle(r)...)
}

// Heard receives the answer of a source, or what went wrong. kiss is the code of a server that refuses to be asked.
func (m *Machine) Heard(r Reading, name string, round int, s Sample, kiss, fault string) []Action {
	for _, p := range m.peers {
		if p.Name != name || !p.waiting || !m.asking || round != m.round {
			continue
		}
		p.waiting = false
		switch {
		case kiss != "":
			p.kissed(kiss, r.Boot)
		case fault != "":
			p.silent(fault)
		default:
			p.answered(s, r.Boot)
			m.judge(r, p)
			m.roundEnd = min(m.roundEnd, r.Boot+grace)
		}
	}
	return m.settle(r)
}

// judge excludes answers that cannot be true, whatever the others are.
func (m *Machine) judge(r Reading, p *peer) {
	switch at := r.Raw.Add(p.last.Offset); {
	case p.last.Stratum < 1 || p.last.Stratum > 15:
		p.rule(clockstatus.Unfit, "it is not synchronised itself")
	case p.last.distance() > maxDistance:
		p.rule(clockstatus.Unfit, "it may be wrong by "+short(p.last.distance()))
	case !savedtime.Plausible(m.build, at):
		p.rule(clockstatus.Unfit, "it says "+at.UTC().Format(time.DateOnly)+", and this image is of "+
			m.build.UTC().Format(time.DateOnly))
	}
}

// settle ends the round when every server has answered.
func (m *Machine) settle(r Reading) []Action {
	if !m.asking {
		return nil
	}
	for _, p := range m.peers {
		if p.waiting {
			return nil
		}
	}
	return m.conclude(r)
}

// spread varies a wait by up to a sixteenth.
func (m *Machine) spread(d time.Duration) time.Duration {
	return d - d/16 + time.Duration(m.random())%(d/8)
}
