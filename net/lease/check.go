package lease

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// check asks the link whether somebody else has an address (RFC 2131, 4.4.1; RFC 5227), independently of the states of
// a Machine.
//
// It does not delay a boot: the first question is sent together with the REQUEST, and a station usually answers as fast
// as the server. If nobody has claimed the address until the ACK, it is used at once while the questions continue: RFC
// 5227 demands up to seven seconds of questions before the first use.
type check struct {
	addr netip.Addr    // invalid: no check is running
	step int           // the next of checkSteps
	next time.Duration // when; 0: none follows
	from time.Duration
}

// checkSteps are the questions, and then the announcements that correct the neighbours' caches. Until the last one a
// conflict counts.
var checkSteps = [...]struct {
	after time.Duration
	verb  Verb
}{{0, Probe}, {time.Second, Probe}, {2 * time.Second, Probe}, {4 * time.Second, Announce}, {6 * time.Second, Announce}}

// The limits on giving addresses up. A station that claims every address, such as a switch that answers for others,
// must not keep a device without any address: the address of the fourth attempt is used, whatever the station says.
const (
	maxDeclines = 3
	declineWait = 10 * time.Second // RFC 2131, 3.1: between a DECLINE and the next attempt, here from the second one on
)

// Checking returns the address whose other claimants the machine needs to know.
func (m *Machine) Checking() (netip.Addr, bool) { return m.check.addr, m.check.addr.IsValid() }

// ask begins to check an address, unless it is being checked.
func (m *Machine) ask(now time.Duration, addr netip.Addr) []Action {
	if m.cfg.Identity.Unchecked || m.check.addr == addr || m.declines >= maxDeclines {
		return nil
	}
	m.check = check{addr: addr, from: now}
	return m.checkOn(now)
}

// checkOn does the steps of the check that are due.
func (m *Machine) checkOn(now time.Duration) []Action {
	c := &m.check
	if !c.addr.IsValid() || now < c.next {
		return nil
	}
	step := checkSteps[c.step]
	c.step++
	var actions []Action
	if step.verb == Probe || m.inUse { // an address that is not ours yet is not announced
		actions = []Action{{Verb: step.verb, To: c.addr}}
	}
	if c.step < len(checkSteps) {
		c.next = c.from + checkSteps[c.step].after
		return actions
	}
	m.check = check{}
	if m.inUse {
		m.declines = 0
	}
	return actions
}

// Conflict reports that another station has or wants the address being checked. The machine gives it up, informs the
// server, and asks for another one.
func (m *Machine) Conflict(now time.Duration, addr netip.Addr, hardware net.HardwareAddr) []Action {
	if !addr.IsValid() || m.check.addr != addr {
		return nil
	}
	server := m.offer.Server
	actions := []Action{{Verb: Note, Reason: fmt.Sprintf("%s is in use by %s, ask for another", addr, hardware)}}
	if m.held.Address.Addr() == addr {
		server = m.held.Server
		actions = append(actions, m.drop("somebody else has the address")...)
		m.held = Lease{}
	}
	m.declines++
	m.begin(now, Selecting)
	msg := m.message(now, dhcpv4.MessageTypeDecline)
	msg.UpdateOption(dhcpv4.OptRequestedIPAddress(option(addr)))
	msg.UpdateOption(dhcpv4.OptServerIdentifier(option(server)))
	actions = append(actions, Action{Verb: Broadcast, Message: msg})
	if m.declines == 1 {
		return append(actions, m.discover(now, nil)...)
	}
	m.next = now + declineWait
	return actions
}
