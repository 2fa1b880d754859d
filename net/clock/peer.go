package clock

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"resinos/net/clockstatus"
)

// How servers are treated that do not answer or refuse to.
const (
	giveUp      = 3 // rounds without an answer, before another address is tried
	firstKiss   = 5 * time.Minute
	longestKiss = 24 * time.Hour
	maxBad      = 16
)

// peer is a source with its state.
type peer struct {
	Source
	literal bool // Name is an address
	addr    netip.Addr
	bad     []netip.Addr  // tried without success
	fails   int           // rounds in a row without an answer
	after   time.Duration // must not be asked before
	pause   time.Duration // after the next refusal

	waiting  bool // it has been asked in this round and has not answered
	answer   bool // its answer of this round may be used
	last     Sample
	heard    time.Duration // when last was received; 0: never
	reach    uint8         // the last eight rounds, one bit for each; the newest is the lowest
	believed bool          // it was used when it last took part in a vote
	state    clockstatus.State
	why      string
}

func newPeer(s Source) *peer {
	p := &peer{Source: s, state: clockstatus.Unasked}
	if addr, err := netip.ParseAddr(s.Name); err == nil {
		p.addr, p.literal = addr.Unmap(), true
	}
	return p
}

// begin returns how the peer takes part in a round.
func (p *peer) begin(now time.Duration, round int) (Action, bool) {
	p.answer, p.waiting = false, false
	if now < p.after {
		return Action{}, false
	}
	p.reach <<= 1
	p.waiting = true
	if !p.addr.IsValid() {
		return Action{Verb: Resolve, Name: p.Name, Round: round}, true
	}
	return Action{Verb: Ask, Name: p.Name, Address: p.addr, Round: round}, true
}

// take chooses one of the addresses: each server has one vote, so it takes none that another peer has, and none that
// failed as long as there is another.
func (p *peer) take(addrs []netip.Addr, fault string, others []*peer, now time.Duration) bool {
	if fault != "" || len(addrs) == 0 {
		if fault == "" {
			fault = "the name has no address"
		}
		p.rule(clockstatus.Unresolved, fault)
		return false
	}
	taken := ""
	var tried netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		i := slices.IndexFunc(others, func(o *peer) bool { return o != p && o.addr == a })
		switch {
		case i >= 0:
			taken = others[i].Name
		case slices.Contains(p.bad, a):
			if !tried.IsValid() {
				tried = a
			}
		default:
			p.addr, p.fails = a, 0
			return true
		}
	}
	if !tried.IsValid() {
		p.rule(clockstatus.Duplicate, "the same server as "+taken)
		return false
	}
	p.bad = nil // all may be tried again
	if p.state == clockstatus.Refusing {
		p.after = now + longestKiss
		return false
	}
	p.addr, p.fails = tried, 0
	return true
}

func (p *peer) rule(s clockstatus.State, why string) {
	p.state, p.why, p.answer, p.believed = s, why, p.answer && s == clockstatus.Used, s == clockstatus.Used
}

func (p *peer) silent(why string) {
	p.waiting = false
	p.rule(clockstatus.Silent, why)
	if p.fails++; p.fails >= giveUp {
		p.drop()
	}
}

// drop makes the next round look for another address.
func (p *peer) drop() {
	if p.literal {
		return
	}
	if len(p.bad) == maxBad {
		p.bad = nil
	}
	p.bad, p.addr, p.fails = append(p.bad, p.addr), netip.Addr{}, 0
}

// kissed processes a "kiss of death" (RFC 5905, 7.4): the server is not asked for a while, longer each time.
func (p *peer) kissed(code string, now time.Duration) {
	p.fails = 0
	p.pause = min(max(firstKiss, 2*p.pause), longestKiss)
	switch code {
	case "DENY", "RSTR":
		p.rule(clockstatus.Refusing, "it refuses to serve us ("+code+")")
		if p.literal {
			p.pause = longestKiss
		}
		p.drop()
	case "RATE":
		p.rule(clockstatus.Refusing, "it wants to be asked less often (RATE)")
	default:
		p.rule(clockstatus.Unfit, fmt.Sprintf("it is not synchronised itself (%.4q)", code))
		return
	}
	p.after = now + p.pause
}

func (p *peer) answered(s Sample, now time.Duration) {
	p.last, p.heard, p.fails, p.answer = s, now, 0, true
	p.reach |= 1
	p.state, p.why = clockstatus.Undecided, ""
}

// candidate returns the peer's vote.
func (p *peer) candidate() Candidate { return Candidate{p.last.Offset, p.last.distance()} }
