package mdns

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"resinos/net/dnswire"
)

// Bits of the class of a record and of a question (RFC 6762, 10.2 and 5.4).
const (
	flush     uint16 = 1 << 15 // of a record: it replaces all others of its name and type
	wantsOnly uint16 = 1 << 15 // of a question: the answer may go to the client alone
	anyClass         = 255
)

// Lifetimes of records in seconds (RFC 6762, 10).
const (
	hostLifetime  = 120
	otherLifetime = 4500
)

var (
	// Domain is the domain that all names are in.
	Domain = dnswire.Must("local")
	all    = dnswire.Must("_services._dns-sd._udp.local")
)

// Service is something that the device offers, such as ssh.
type Service struct {
	Type    string // such as _ssh._tcp
	Subtype string // such as _resin-device; empty: none
	Port    uint16
}

// hostOf returns the name of the device in Domain. A host name of several labels counts with its first one.
func hostOf(hostname string, suffix int) dnswire.Name {
	label, _, _ := strings.Cut(hostname, ".")
	if label == "" {
		label = "resinos"
	}
	end := ""
	if suffix > 1 {
		end = fmt.Sprintf("-%d", suffix)
	}
	label = label[:min(len(label), 63-len(end))] + end
	return dnswire.Must(label + ".local")
}

// below returns label in front of a name.
func below(label string, name dnswire.Name) dnswire.Name {
	return dnswire.Name(strings.ToLower(label)+".") + name
}

// published returns the records of a link: those of the host's name, and those of the services.
func published(host dnswire.Name, addresses []netip.Prefix, services []Service) []dnswire.Record {
	var out []dnswire.Record
	one := func(name dnswire.Name, kind uint16, ttl uint32, data []byte, unique bool) {
		class := dnswire.ClassIN
		if unique {
			class |= flush
		}
		out = append(out, dnswire.Record{Name: name, Type: kind, Class: class, TTL: ttl, Data: data})
	}
	for _, p := range addresses {
		kind := dnswire.TypeAAAA
		if p.Addr().Is4() {
			kind = dnswire.TypeA
		}
		one(host, kind, hostLifetime, p.Addr().AsSlice(), true)
		one(reverse(p.Addr()), dnswire.TypePTR, hostLifetime, host.Wire(), true)
	}
	for _, s := range services {
		kind := dnswire.Must(s.Type + ".local")
		instance := below(host.First(), kind)
		one(all, dnswire.TypePTR, otherLifetime, kind.Wire(), false)
		one(kind, dnswire.TypePTR, otherLifetime, instance.Wire(), false)
		if s.Subtype != "" {
			sub := dnswire.Must(s.Subtype + "._sub." + s.Type + ".local")
			one(sub, dnswire.TypePTR, otherLifetime, instance.Wire(), false)
		}
		data := append(binary.BigEndian.AppendUint16(make([]byte, 4), s.Port), host.Wire()...)
		one(instance, dnswire.TypeSRV, hostLifetime, data, true)
		one(instance, dnswire.TypeTXT, otherLifetime, []byte{0}, true)
	}
	return out
}

// reverse returns the name under which the name of an address is asked for.
func reverse(a netip.Addr) dnswire.Name {
	var b strings.Builder
	bytes := a.AsSlice()
	for _, c := range slices.Backward(bytes) {
		if a.Is4() {
			fmt.Fprintf(&b, "%d.", c)
		} else {
			fmt.Fprintf(&b, "%x.%x.", c&15, c>>4)
		}
	}
	if a.Is4() {
		return dnswire.Must(b.String() + "in-addr.arpa")
	}
	return dnswire.Must(b.String() + "ip6.arpa")
}

func unique(r dnswire.Record) bool { return r.Class&flush != 0 }

// same reports whether two records say the same.
func same(a, b dnswire.Record) bool {
	return a.Name == b.Name && a.Type == b.Type && (a.Class^b.Class)&^flush == 0 && bytes.Equal(a.Data, b.Data)
}

// denial returns the record that says which types a name of ours has (NSEC, RFC 6762, 6.1): all others do not exist.
func denial(name dnswire.Name, records []dnswire.Record) dnswire.Record {
	var bits []byte
	for _, r := range records {
		if r.Name != name || r.Type > 255 {
			continue
		}
		for len(bits) <= int(r.Type/8) {
			bits = append(bits, 0)
		}
		bits[r.Type/8] |= 0x80 >> (r.Type % 8)
	}
	data := append(name.Wire(), 0, byte(len(bits)))
	return dnswire.Record{Name: name, Type: dnswire.TypeNSEC, Class: dnswire.ClassIN | flush, TTL: hostLifetime,
		Data: append(data, bits...)}
}

// later reports whether the records of another host that claims our names at the same time win (RFC 6762, 8.2): both
// sets are sorted, and the first difference decides.
func later(theirs, ours []dnswire.Record) int {
	order := func(a, b dnswire.Record) int {
		if c := int(a.Class&^flush) - int(b.Class&^flush); c != 0 {
			return c
		}
		if c := int(a.Type) - int(b.Type); c != 0 {
			return c
		}
		return bytes.Compare(a.Data, b.Data)
	}
	slices.SortStableFunc(theirs, order)
	slices.SortStableFunc(ours, order)
	return slices.CompareFunc(theirs, ours, order)
}

// beside returns the records that whoever gets the answers asks for next: of a service, where it is.
func beside(answers, all []dnswire.Record) []dnswire.Record {
	service := func(r dnswire.Record) bool {
		return r.Type == dnswire.TypePTR && !unique(r) || r.Type == dnswire.TypeSRV
	}
	if !slices.ContainsFunc(answers, service) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(all), func(r dnswire.Record) bool {
		said := slices.ContainsFunc(answers, func(a dnswire.Record) bool { return same(a, r) })
		return said || r.Type == dnswire.TypePTR
	})
}
