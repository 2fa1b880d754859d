// Package pool assigns subnets and addresses of IPv4 and IPv6 to the networks of apps, and keeps them in a file: a
// container keeps its address over restarts and power cuts. Read Pool first.
package pool

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"resinos/containers/app"
	"resinos/mounts/atomicfile"
	"resinos/mounts/plainfile"
)

// Pool is the addresses of all containers.
type Pool struct {
	Networks map[string]Subnet // of IPv4
	Six      map[string]Subnet `json:",omitempty"` // of IPv6, of the networks that have it
	// Own is the device's part of the unique local addresses (RFC 4193): chosen by chance once, for all networks.
	Own netip.Prefix `json:",omitzero"`
	// Apps are the containers as they were wanted last, while they exist: an app whose file cannot be read keeps its
	// networks and ports.
	Apps map[string][]app.Container
}

// Subnet is the subnet of one network.
type Subnet struct {
	Prefix    netip.Prefix
	Addresses map[string]netip.Addr // by container
}

// reserved are subnets that are never used: the resolver, the proxy, the supervisor and the engine of resinOS had them,
// and programs and settings of owners refer to them.
var reserved = []string{"10.114.101.0/24", "10.114.102.0/24", "10.114.103.0/24", "10.114.104.0/24", "192.168.42.0/24"}

// Reserved are subnets that no network gets.
func Reserved() (list []netip.Prefix) {
	for _, s := range reserved {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

// NewOwn chooses the 40 bits of a prefix that hardly any other site has.
func NewOwn() netip.Prefix {
	a := [16]byte{0xfd}
	_, _ = rand.Read(a[1:6]) // it never fails
	return netip.PrefixFrom(netip.AddrFrom16(a), 48)
}

// Family returns the subnets of IPv6, or of IPv4.
func (p *Pool) Family(six bool) map[string]Subnet {
	if !six {
		return p.Networks
	}
	if p.Six == nil {
		p.Six = map[string]Subnet{}
	}
	return p.Six
}

// candidates6 calls f for the subnets of own.
func candidates6(own netip.Prefix, f func(netip.Prefix) bool) {
	a := own.Addr().As16()
	for i := 1; i < 1<<16 && own.IsValid(); i++ {
		a[6], a[7] = byte(i>>8), byte(i)
		if !f(netip.PrefixFrom(netip.AddrFrom16(a), 64)) {
			return
		}
	}
}

// candidates calls f for every subnet that may be used, until f returns false. The first ones hardly ever collide with
// an owner's network; the others are those of Docker.
func candidates(f func(netip.Prefix) bool) {
	for i := 105; i < 255; i++ {
		if !f(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 114, byte(i), 0}), 24)) {
			return
		}
	}
	for i := 18; i < 32; i++ {
		for j := range 256 {
			if !f(netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(i), byte(j), 0}), 24)) {
				return
			}
		}
	}
}

var errNoSubnet = errors.New("no subnet is free: give the network one with ipam: {config: [{subnet: …}]}")

// Choose returns the subnet of a network, given those of all: the one it has, unless it asks for another one or
// overlaps with a route of others. own is the prefix of its IPv6 subnet, and not valid for IPv4.
func Choose(all map[string]Subnet, own netip.Prefix, name, asked string, routes []netip.Prefix) (netip.Prefix, error) {
	overlaps := func(prefix netip.Prefix) string {
		for _, other := range slices.Sorted(maps.Keys(all)) {
			if other != name && all[other].Prefix.Overlaps(prefix) {
				return "network " + other
			}
		}
		for _, r := range routes {
			if r.Overlaps(prefix) {
				return "the route to " + r.String()
			}
		}
		return ""
	}
	if asked != "" {
		prefix := netip.MustParsePrefix(asked) // package app has checked it
		if by := overlaps(prefix); by != "" {
			return prefix, fmt.Errorf("network %s: subnet %s overlaps %s: choose another one", name, asked, by)
		}
		return prefix, nil
	}
	if old, ok := all[name]; ok && overlaps(old.Prefix) == "" {
		return old.Prefix, nil
	}
	var found netip.Prefix
	try := func(c netip.Prefix) bool {
		if overlaps(c) == "" {
			found = c
		}
		return !found.IsValid()
	}
	if own.IsValid() {
		candidates6(own, try)
	} else {
		candidates(try)
	}
	if !found.IsValid() {
		return found, fmt.Errorf("network %s: %w", name, errNoSubnet)
	}
	return found, nil
}

// Address returns the container's address in s: the one it asks for, the one it had, or the lowest free one.
func (s Subnet) Address(container, asked string) (netip.Addr, error) {
	taken := func(a netip.Addr) string {
		for _, other := range slices.Sorted(maps.Keys(s.Addresses)) {
			if other != container && s.Addresses[other] == a {
				return other
			}
		}
		return ""
	}
	if asked != "" {
		a := netip.MustParseAddr(asked) // package app has checked it
		if by := taken(a); by != "" {
			return a, fmt.Errorf("address %s has %s already", a, by)
		}
		return a, nil
	}
	if old, ok := s.Addresses[container]; ok && s.Prefix.Contains(old) && taken(old) == "" {
		return old, nil
	}
	last := broadcast(s.Prefix)
	for a := Gateway(s.Prefix).Next(); s.Prefix.Contains(a) && a != last; a = a.Next() {
		if taken(a) == "" {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address is free in %s", s.Prefix)
}

// Gateway is the first address of a subnet, which the device has.
func Gateway(p netip.Prefix) netip.Addr { return p.Masked().Addr().Next() }

func broadcast(p netip.Prefix) netip.Addr {
	if p.Addr().Is6() {
		return netip.Addr{} // there is none
	}
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(a)
}

// maxPool limits the size of the pool's file: 1,000 containers need half a megabyte.
const maxPool = 16 << 20

// Load reads the pool; a missing one is empty. If the file cannot be read, the pool is empty and the error says
// why.
func Load(path string) (Pool, error) {
	empty := Pool{Networks: map[string]Subnet{}, Apps: map[string][]app.Container{}}
	data, err := plainfile.Read(path, maxPool)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, err
	}
	p := Pool{Networks: map[string]Subnet{}, Apps: map[string][]app.Container{}}
	if err := json.Unmarshal(data, &p); err != nil {
		return empty, fmt.Errorf("read %s: %w", path, err)
	}
	for name, s := range p.Networks {
		if !s.Prefix.IsValid() || !s.Prefix.Addr().Is4() || s.Prefix.Bits() > 29 {
			delete(p.Networks, name)
		}
	}
	for name, s := range p.Six {
		if !s.Prefix.IsValid() || !s.Prefix.Addr().Is6() || s.Prefix.Bits() > maxBits6 {
			delete(p.Six, name)
		}
	}
	if p.Own.IsValid() && (!p.Own.Addr().Is6() || p.Own.Bits() != 48) {
		p.Own = netip.Prefix{}
	}
	for name, list := range p.Apps {
		p.Apps[name] = slices.DeleteFunc(list, func(c app.Container) bool { return !sound(c) })
	}
	return p, nil
}

// sound reports whether the addresses of a container that was read from the disk are addresses that package app can
// produce.
func sound(c app.Container) bool {
	for _, l := range c.Links {
		prefix, err := netip.ParsePrefix(l.Subnet)
		if l.Subnet != "" && (err != nil || !prefix.Addr().Is4() || prefix.Bits() > 29) || !is4(l.Address) {
			return false
		}
		prefix, err = netip.ParsePrefix(l.Subnet6)
		if l.Subnet6 != "" && (err != nil || !prefix.Addr().Is6() || prefix.Bits() > maxBits6) || !is6(l.Address6) {
			return false
		}
	}
	for _, p := range c.Ports {
		if !is4(p.Address) && !is6(p.Address) || p.First > p.Last || p.Last-p.First > ^uint16(0)-p.Target {
			return false
		}
	}
	return true
}

// is4 reports whether text is an IPv4 address or nothing.
func is4(text string) bool {
	a, err := netip.ParseAddr(text)
	return text == "" || err == nil && a.Is4()
}

// is6 reports whether text is an IPv6 address or nothing.
func is6(text string) bool {
	a, err := netip.ParseAddr(text)
	return text == "" || err == nil && a.Is6() && a.Zone() == ""
}

// maxBits6 is the length of the smallest subnet of IPv6: containers need some addresses.
const maxBits6 = 120

// Save replaces the file unless it has this content already.
func Save(path string, p Pool) error {
	data, err := json.MarshalIndent(p, "", "\t")
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(path); err == nil && string(old) == string(data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.Write(path, data, 0o644)
}
