package addresspool

import (
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"time"

	"resinos/services/hostname"
)

// Lease is an address that a client has. Its JSON is the format of the file; Until is in seconds since kernel start.
type Lease struct {
	Address  netip.Addr `json:"address"`
	Hardware string     `json:"hardware"`
	Name     string     `json:"name,omitempty"` // that the client gives itself
	Until    float64    `json:"until"`
}

// Leases lists the leases by address.
func (m *Machine) Leases() []Lease {
	out := []Lease{}
	for a, e := range m.entries {
		if e.state == bound {
			out = append(out, Lease{a, e.client.String(), e.name, e.until.Seconds()})
		}
	}
	slices.SortStableFunc(out, func(a, b Lease) int { return a.Address.Compare(b.Address) })
	return out
}

// Restore adds the leases of an earlier life, as Leases gave them in JSON. What cannot be one of this server is
// skipped; of a text that is no JSON, nothing is restored. It is called before Receive.
func (m *Machine) Restore(text []byte, now time.Duration) {
	var list []Lease
	if json.Unmarshal(text, &list) != nil {
		return
	}
	for _, l := range list {
		hw, err := net.ParseMAC(l.Hardware)
		until := time.Duration(min(max(l.Until, 0), 1e9) * float64(time.Second))
		if err != nil || len(hw) != len(Hardware{}) || !m.gives(l.Address) || m.entries[l.Address] != nil {
			continue
		}
		client := Hardware(hw)
		if _, has := m.clients[client]; has || until <= now || until > now+m.cfg.Length {
			continue
		}
		if !hostname.ValidLabel(l.Name) {
			l.Name = ""
		}
		m.put(l.Address, &entry{state: bound, client: client, name: l.Name, until: until})
	}
}
