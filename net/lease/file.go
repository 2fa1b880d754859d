package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"resinos/mounts/plainfile"
	"resinos/services/hostname"
)

// maxFile limits the size of a lease file; ours are below two kilobytes.
const maxFile = 64 << 10

// saved is the format of the file: durations in seconds, so that an operator can read it.
type saved struct {
	Link      string       `json:"link"`
	Hardware  string       `json:"hardware"`
	Address   netip.Prefix `json:"address"`
	Broadcast netip.Addr   `json:"broadcast,omitzero"`
	Server    netip.Addr   `json:"server"`
	Routers   []netip.Addr `json:"routers,omitempty"`
	Routes    []savedRoute `json:"routes,omitempty"`
	DNS       []netip.Addr `json:"dns,omitempty"`
	NTP       []netip.Addr `json:"ntp,omitempty"`
	Domains   []string     `json:"domains,omitempty"`
	Search    []string     `json:"search,omitempty"`
	Hostname  string       `json:"hostname,omitempty"`
	MTU       int          `json:"mtu,omitempty"`
	Bound     float64      `json:"bound"` // since kernel start
	Renew     float64      `json:"renew"`
	Rebind    float64      `json:"rebind"`
	Length    float64      `json:"length"`
}

type savedRoute struct {
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway"`
}

// MarshalJSON returns the lease in the format of a lease file.
func (l Lease) MarshalJSON() ([]byte, error) {
	s := saved{
		Link: l.Link, Hardware: l.Hardware, Address: l.Address, Broadcast: l.Broadcast, Server: l.Server,
		Routers: l.Routers, DNS: l.DNS, NTP: l.NTP, Domains: l.Domains, Search: l.Search, Hostname: l.Hostname,
		MTU: l.MTU, Bound: l.Bound.Seconds(), Renew: l.Renew.Seconds(), Rebind: l.Rebind.Seconds(),
		Length: l.Length.Seconds(),
	}
	for _, r := range l.Routes {
		s.Routes = append(s.Routes, savedRoute(r))
	}
	return json.Marshal(s)
}

// UnmarshalJSON reads what MarshalJSON wrote. It fails if the lease could not have come from Grant.
func (l *Lease) UnmarshalJSON(text []byte) error {
	var s saved
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	*l = Lease{
		Link: s.Link, Hardware: s.Hardware, Address: s.Address, Broadcast: s.Broadcast, Server: s.Server,
		Routers: s.Routers, DNS: s.DNS, NTP: s.NTP, Domains: s.Domains, Search: s.Search, Hostname: s.Hostname,
		MTU: s.MTU, Bound: fromSeconds(s.Bound), Renew: fromSeconds(s.Renew), Rebind: fromSeconds(s.Rebind),
		Length: fromSeconds(s.Length),
	}
	for _, r := range s.Routes {
		l.Routes = append(l.Routes, Route(r))
	}
	return l.check()
}

// check returns the reason why a lease from a file must not be used.
func (l *Lease) check() error {
	switch {
	case !usable(l.Address.Addr()) || !usable(l.Server):
		return errors.New("no usable address or server")
	case l.Renew <= 0 || l.Renew > l.Rebind || l.Rebind > l.Length || l.Bound < 0:
		return errors.New("times do not fit")
	case l.MTU != 0 && (l.MTU < minMTU || l.MTU > maxMTU):
		return errors.New("mtu out of range")
	}
	for _, name := range slices.Concat(l.Domains, l.Search, []string{l.Hostname}) {
		if name != "" && !hostname.Valid(name) {
			return errors.New("not a host name")
		}
	}
	for _, a := range slices.Concat(l.Routers, l.DNS, l.NTP) {
		if !usable(a) {
			return errors.New("not a usable address")
		}
	}
	for _, r := range l.Routes {
		if !r.Destination.IsValid() || !acceptable(r) {
			return errors.New("not a usable route")
		}
	}
	return nil
}

func fromSeconds(s float64) time.Duration {
	// A lease without end has 136 years; what exceeds the range of Duration is not a lease that we wrote.
	if s < 0 || s > 9e9 {
		return -1
	}
	return time.Duration(s * float64(time.Second))
}

// Path returns the path of a link's lease file in dir.
func Path(dir, link string) string {
	return filepath.Join(dir, filepath.Base(link)+".json")
}

// Load reads the lease of a link. The error wraps fs.ErrNotExist if there is none.
func Load(dir, link string) (Lease, error) {
	path := Path(dir, link)
	text, err := plainfile.Read(path, maxFile)
	if err != nil {
		return Lease{}, fmt.Errorf("read lease: %w", err)
	}
	var l Lease
	if err := json.Unmarshal(text, &l); err != nil {
		return Lease{}, fmt.Errorf("read lease %s: %w", path, err)
	}
	if l.Link != link {
		return Lease{}, fmt.Errorf("read lease %s: it is for link %s", path, strings.ToValidUTF8(l.Link, "?"))
	}
	return l, nil
}
