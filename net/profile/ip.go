package profile

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"resinos/net/keyfile"
	"resinos/net/keyvalue"
)

// Route is one route of a profile. Options are its attributes by NetworkManager's names, such as mtu, onlink and table.
type Route struct {
	Destination netip.Prefix
	Gateway     netip.Addr // not valid: the destination is on the link
	Metric      int64      // -1: that of the profile
	Options     map[string]string
}

// numberedKey is a key that may be repeated with a number: address, address1, addresses2, routes, route1…
type numberedKey struct {
	keyfile.Key
	number int64 // -1: none
	kind   int   // which of the names
}

// numberedKeys returns the keys of a group with one of the names, in the order of their numbers.
func numberedKeys(g keyfile.Group, names ...string) []numberedKey {
	var out []numberedKey
	for _, k := range g.Keys {
		for kind, name := range names {
			rest, is := strings.CutPrefix(k.Name, name)
			n := int64(-1)
			if is && rest != "" {
				var err error
				n, err = strconv.ParseInt(rest, 10, 32)
				is = err == nil && n >= 0 && strconv.FormatInt(n, 10) == rest
			}
			if is {
				out = append(out, numberedKey{k, n, kind})
				break
			}
		}
	}
	slices.SortStableFunc(out, func(a, b numberedKey) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.kind, b.kind))
	})
	return out
}

// numbered reads the addresses, routes or rules of a group.
func (r *reader) numbered(g keyfile.Group, by string, ip *IP, taken map[string]bool) {
	six := g.Name == "ipv6"
	names := map[string][]string{
		"addresses": {"address", "addresses"}, "routes": {"route", "routes"}, "rules": {"routing-rule"},
	}[by]
	for _, k := range numberedKeys(g, names...) {
		taken[k.Name] = true
		var err error
		switch by {
		case "addresses":
			err = r.address(g, k.Key, six, ip)
		case "routes":
			taken[k.Name+"_options"] = true
			err = r.route(g, k.Key, six, ip)
		case "rules":
			var text string
			var rule keyvalue.Rule
			if text, err = k.Text(); err == nil {
				rule, err = keyvalue.ParseRule(text, six)
			}
			if err == nil {
				ip.Rules = append(ip.Rules, rule)
			}
		}
		if err != nil {
			r.warn(g.Name, k.Key, "ignored: %v", err)
		}
	}
}

// fields are the parts of an address or route. A slash, a semicolon and a comma mean the same, as in NetworkManager; a
// length that is not a number is not there.
type fields struct {
	address, bits, gateway, metric string
	hasBits                        bool
}

const addressLetters = "0123456789abcdefABCDEF:.%"

func splitFields(text string, route bool) (fields, error) {
	var f fields
	rest, more := text, true
	next := func(letters string) (string, bool) {
		end := strings.IndexFunc(rest, func(r rune) bool { return !strings.ContainsRune(letters, r) })
		switch {
		case rest == "":
			return "", true
		case end < 0:
			field := rest
			rest, more = "", false
			return field, true
		case strings.IndexByte("/;,", rest[end]) < 0:
			return "", false
		}
		field := rest[:end]
		rest = rest[end+1:]
		return field, true
	}
	var ok bool
	if f.address, ok = next(addressLetters); !ok {
		return f, errors.New("not an address")
	}
	before := rest
	if f.bits, ok = next("0123456789"); ok && before != "" {
		f.hasBits = true
	}
	if f.gateway, ok = next(addressLetters); !ok {
		return f, errors.New("the gateway is not an address")
	}
	if route {
		if f.metric, ok = next("0123456789"); !ok {
			return f, errors.New("the metric is not a number")
		}
	}
	if more && rest != "" {
		return f, errors.New("there is something behind the last part")
	}
	return f, nil
}

// prefix returns the address with its length. Without a length, or with a wrong one, fallback is the length.
func (r *reader) prefix(g keyfile.Group, k keyfile.Key, f fields, six bool, fallback int) (netip.Prefix, error) {
	a, err := netip.ParseAddr(f.address)
	if err != nil || a.Zone() != "" || a.Is4() == six {
		return netip.Prefix{}, errors.New("not an address of this family")
	}
	bits := fallback
	if n, err := strconv.Atoi(f.bits); err == nil && n <= a.BitLen() {
		bits = n
	} else {
		r.warn(g.Name, k, "the length behind the address is missing or wrong: %d is used", fallback)
	}
	return netip.PrefixFrom(a, bits), nil
}

func (r *reader) address(g keyfile.Group, k keyfile.Key, six bool, ip *IP) error {
	text, err := k.Text()
	if err != nil || text == "" {
		return err
	}
	f, err := splitFields(text, false)
	if err != nil {
		return err
	}
	p, err := r.prefix(g, k, f, six, map[bool]int{false: 24, true: 64}[six])
	if err != nil {
		return err
	}
	if !slices.Contains(ip.Addresses, p) {
		ip.Addresses = append(ip.Addresses, p)
	}
	if f.gateway != "" && ip.Gateway == "" {
		ip.Gateway = f.gateway
	}
	return nil
}

func (r *reader) route(g keyfile.Group, k keyfile.Key, six bool, ip *IP) error {
	text, err := k.Text()
	if err != nil || text == "" {
		return err
	}
	f, err := splitFields(text, true)
	if err != nil {
		return err
	}
	p, err := r.prefix(g, k, f, six, map[bool]int{false: 24, true: 128}[six])
	if err != nil {
		return err
	}
	route := Route{Destination: p, Metric: -1}
	if f.gateway != "" {
		a, err := netip.ParseAddr(f.gateway)
		switch n, old := keyvalue.Number(f.gateway, 0, 1<<32-1); {
		case err == nil && a.Zone() == "" && a.Is4() != six:
			if !a.IsUnspecified() {
				route.Gateway = a
			}
		case six && f.metric == "" && old == nil: // a metric, in files of an old version
			route.Metric = n
		default:
			return errors.New("the gateway is not an address of this family")
		}
	}
	if f.metric != "" {
		n, err := strconv.ParseUint(f.metric, 10, 32)
		if err != nil {
			return errors.New("the metric is too large")
		}
		route.Metric = int64(n)
	}
	if options, there := g.Key(k.Name + "_options"); there {
		r.routeOptions(g, options, six, &route)
	}
	if !slices.ContainsFunc(ip.Routes, func(o Route) bool { return fmt.Sprint(o) == fmt.Sprint(route) }) {
		ip.Routes = append(ip.Routes, route)
	}
	return nil
}

// routeOptions reads "mtu=1400,onlink=true". One wrong number or flag costs all of them, as in NetworkManager.
func (r *reader) routeOptions(g keyfile.Group, k keyfile.Key, six bool, route *Route) {
	text, err := k.Text()
	if err != nil {
		r.warn(g.Name, k, "ignored: %v", err)
		return
	}
	options := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if name == "" {
			continue
		}
		value, known, fatal, err := keyvalue.RouteAttribute(name, value, six)
		if !known {
			r.warn(g.Name, k, "no attribute is called %q; what follows it is ignored", name)
			break
		}
		if fatal {
			r.warn(g.Name, k, "all attributes are ignored: %s: %v", name, err)
			return
		}
		if err != nil {
			r.warn(g.Name, k, "%s is ignored: %v", name, err)
			continue
		}
		options[name] = value
	}
	if len(options) > 0 {
		route.Options = options
	}
}

// gateway reads the key "gateway", which goes before the gateway of an address.
func gateway(_ keyfile.Group, k keyfile.Key, into *string) error {
	text, err := k.Text()
	if err == nil {
		*into = text
	}
	return err
}

// finishIP writes the addresses of a section in one form.
func finishIP(g keyfile.Group, ip *IP) {
	if a, err := netip.ParseAddr(ip.Gateway); err == nil {
		ip.Gateway = a.String()
		if a.IsUnspecified() {
			ip.Gateway = ""
		}
	}
	_, mode := g.Key("addr-gen-mode")
	switch _, token := g.Key("token"); {
	case g.Name != "ipv6" || mode:
	case token:
		ip.AddrGenMode = EUI64
	default:
		ip.AddrGenMode = DefaultOrEUI64
	}
}

// dns reads the name servers. A wrong one costs only itself.
func (r *reader) dns(g keyfile.Group, k keyfile.Key, into *[]string) error {
	list, err := k.List()
	if err != nil {
		return err
	}
	for _, text := range list {
		host, name, named := strings.Cut(text, "#")
		a, err := netip.ParseAddr(host)
		if err != nil || a.Zone() != "" || a.Is4() != (g.Name == "ipv4") || named && name == "" {
			r.warn(g.Name, k, "a server is ignored: not an address of this family")
			continue
		}
		text = a.String()
		if named {
			text += "#" + name
		}
		if !slices.Contains(*into, text) {
			*into = append(*into, text)
		}
	}
	return nil
}

// search reads the search domains. If there is one only, a comma or space separates as well, which old files have.
func (r *reader) search(g keyfile.Group, k keyfile.Key, into *[]string) error {
	list, err := k.List()
	if err != nil {
		return err
	}
	if len(list) == 1 && strings.ContainsAny(list[0], ", ") {
		r.warn(g.Name, k, "only ; separates domains")
		list = strings.FieldsFunc(list[0], func(r rune) bool { return r == ',' || r == ' ' })
	}
	*into = list
	return nil
}
