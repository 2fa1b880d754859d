// Package leasememory owns the files that keep the last lease of each link over a reboot, with the hardware address by
// which its network is recognised.
//
// The file says when it was written by a clock that may have been wrong, and that may be wrong now: what follows from
// its age is bounded on both sides (Entry.Usable). It never decides whether the network is the same (dhcpclient does).
//
// Read first: Entry.
package leasememory

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"resinos/mounts/atomicfile"
	"resinos/mounts/plainfile"
	"resinos/net/lease"
)

// Entry is the last lease of one link, and a station of its network.
type Entry struct {
	Lease    lease.Lease `json:"lease"`
	Witness  netip.Addr  `json:"witness"`  // the router of the network, or its DHCP server
	Hardware string      `json:"hardware"` // that of the witness: the network is the same if it still has this
	Saved    time.Time   `json:"saved"`    // by the clock of the device
}

// maxFile limits the size of a file; ours are below three kilobytes.
const maxFile = 64 << 10

// The limits on how long a lease of an earlier boot is used while no server says anything about it.
const (
	MinUse = time.Minute
	MaxUse = time.Hour
)

// Witness returns the station by which the network of a lease is recognised: the first router or the server that is in
// its subnet.
func Witness(l lease.Lease) (netip.Addr, bool) {
	var all []netip.Addr
	for _, r := range l.Gateways() {
		all = append(all, r.Gateway)
	}
	for _, a := range append(all, l.Server) {
		if l.Address.Contains(a) && a != l.Address.Addr() {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// Path returns the path of a link's file in dir.
func Path(dir, link string) string { return filepath.Join(dir, filepath.Base(link)+".json") }

// Load reads the file of a link with a hardware address. The error wraps fs.ErrNotExist if there is none.
func Load(dir, link, hardware string) (Entry, error) {
	path := Path(dir, link)
	text, err := plainfile.Read(path, maxFile)
	if err != nil {
		return Entry{}, fmt.Errorf("read lease memory: %w", err)
	}
	e, err := parse(text)
	if err == nil && (e.Lease.Link != link || e.Lease.Hardware != hardware) {
		err = errors.New("it is for another link")
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read lease memory %s: %w", path, err)
	}
	return e, nil
}

func parse(text []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(text, &e); err != nil {
		return Entry{}, err
	}
	if len(e.Lease.Link) == 0 || !e.Witness.Is4() || !e.Lease.Address.Contains(e.Witness) {
		return Entry{}, errors.New("it has no usable lease or witness")
	}
	if hardware, err := net.ParseMAC(e.Hardware); err != nil || len(hardware) != 6 {
		return Entry{}, errors.New("its witness has no hardware address")
	}
	return e, nil
}

// Save writes the file of the entry's link.
func (e Entry) Save(dir string) error {
	text, err := json.Marshal(e)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = atomicfile.Write(Path(dir, e.Lease.Link), append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write lease memory: %w", err)
	}
	return nil
}

// Remove removes the file of a link, if there is one.
func Remove(dir, link string) error {
	if err := os.Remove(Path(dir, link)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove lease memory: %w", err)
	}
	return nil
}

// Covers reports whether the entry says all of a lease but its times, so that it need not be written again.
func (e Entry) Covers(l lease.Lease) bool {
	o := e.Lease
	return o.Link == l.Link && o.Hardware == l.Hardware && o.Address == l.Address && o.Server == l.Server &&
		slices.Equal(o.Gateways(), l.Gateways()) && slices.Equal(o.DNS, l.DNS) && slices.Equal(o.NTP, l.NTP) &&
		slices.Equal(o.SearchDomains(), l.SearchDomains()) && o.MTU == l.MTU
}

// Usable returns how long the lease may be used from now on if no server says anything: the rest of its time, within
// MinUse and MaxUse. A clock that went backwards counts as one that stood still.
func (e Entry) Usable(now time.Time) time.Duration {
	left := e.Lease.Length - max(now.Sub(e.Saved), 0)
	return min(max(left, MinUse), MaxUse)
}
