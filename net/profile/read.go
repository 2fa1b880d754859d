package profile

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"resinos/net/keyfile"
	"resinos/net/keyvalue"
)

// Warning is a fault of one key or section that does not cost the rest of the file, or one that has no effect here.
type Warning struct {
	File, Section, Key string
	Line               int
	Text               string
}

// String returns the warning as one line. It never holds the value of a key, which may be a secret.
func (w Warning) String() string {
	where := "[" + w.Section + "]"
	if w.Key != "" {
		where += " " + w.Key
	}
	return fmt.Sprintf("%s:%d: %s: %s", w.File, w.Line, where, w.Text)
}

// Parse reads a key file that is called name, without judging what the keys say together. A profile without an id is
// called like the file.
func Parse(name string, text []byte) (Profile, []Warning, error) {
	file, err := keyfile.Parse(text)
	if err != nil {
		return Profile{}, nil, fmt.Errorf("%s: %w", name, err)
	}
	r := &reader{name: name, file: file}
	var p Profile
	fill(reflect.ValueOf(&p.Connection).Elem())
	r.sections(&p)
	r.peers(&p)
	r.secrets(&p)
	if _, written := r.key("connection", "id"); !written {
		p.Connection.ID = strings.TrimSuffix(name, ".nmconnection")
	}
	p.Connection.Type = canonical(p.Connection.Type)
	r.misplacedName(&p)
	slices.SortStableFunc(r.warnings, func(a, b Warning) int { return a.Line - b.Line })
	return p, r.warnings, nil
}

// Has reports whether the profile has the section of a type.
func (p *Profile) Has(t string) bool {
	switch t {
	case TypeEthernet:
		return p.Ethernet != nil
	case TypeWiFi:
		return p.WiFi != nil
	case TypeGSM:
		return p.GSM != nil
	case TypeVPN:
		return p.VPN != nil
	case TypeWireGuard:
		return p.WireGuard != nil
	case TypeBridge:
		return p.Bridge != nil
	case TypeVLAN:
		return p.VLAN != nil
	case TypeBond:
		return p.Bond != nil
	case TypeDummy:
		return p.Dummy != nil
	}
	return false
}

// LinkName returns the name of the link that the profile is for, or that it creates; empty: it names none. A vlan
// without a name is called like its parent and number, as in eth0.5.
func (p *Profile) LinkName() string {
	name := p.Connection.InterfaceName
	if v := p.VLAN; name == "" && p.Connection.Type == TypeVLAN && v != nil && keyvalue.LinkName(v.Parent) {
		name = v.Parent + "." + strconv.FormatInt(v.ID, 10)
	}
	if !keyvalue.LinkName(name) {
		return ""
	}
	return name
}

// Silent reports whether the profile wants no multicast DNS on its link (mdns=0), or only lookups (mdns=1): there are
// no lookups without an announcement here.
func (p *Profile) Silent() bool { return p.Connection.MDNS == 0 || p.Connection.MDNS == 1 }

// reader reads one file into a profile.
type reader struct {
	name     string
	file     keyfile.File
	warnings []Warning
}

func (r *reader) warn(section string, k keyfile.Key, format string, args ...any) {
	r.warnings = append(r.warnings, Warning{r.name, section, k.Name, k.Line, fmt.Sprintf(format, args...)})
}

func (r *reader) key(section, name string) (keyfile.Key, bool) {
	g, _ := r.file.Group(section)
	return g.Key(name)
}

// canonical returns the old name of a section or type, which is the one that NetworkManager works with.
func canonical(name string) string {
	switch name {
	case "ethernet":
		return "802-3-ethernet"
	case "wifi":
		return "802-11-wireless"
	case "wifi-security":
		return "802-11-wireless-security"
	}
	return name
}

// foreign are the sections, which are types as well, that NetworkManager knows and that have no effect here.
var foreign = []string{
	"6lowpan", "802-11-olpc-mesh", "adsl", "bluetooth", "cdma", "dcb", "ethtool", "generic", "hostname", "hsr",
	"infiniband", "ip-tunnel", "ipvlan", "link", "loopback", "macsec", "macvlan", "ovs-bridge", "ovs-dpdk",
	"ovs-external-ids", "ovs-interface", "ovs-other-config", "ovs-patch", "ovs-port", "pppoe",
	"prefix-delegation", "proxy", "sriov", "tc", "team", "team-port", "tun", "veth", "vrf", "vxlan",
	"wifi-p2p", "wimax", "wpan",
}

// sections reads every section that has a field in Profile, and warns of the others.
func (r *reader) sections(p *Profile) {
	fields := reflect.ValueOf(p).Elem()
	known := map[string]bool{"vpn-secrets": true, ".nmmeta": true, "user": true}
	for i := range fields.NumField() {
		names := strings.Split(fields.Type().Field(i).Tag.Get("nm"), ",")
		for _, name := range names {
			known[name] = true
		}
		group, there := r.file.Group(names[len(names)-1])
		if !there {
			group, there = r.file.Group(names[0])
		}
		if !there {
			continue
		}
		if fields.Type().Field(i).Tag.Get("unused") != "" {
			r.unused(group)
		}
		into := fields.Field(i)
		if into.Kind() == reflect.Pointer {
			into.Set(reflect.New(into.Type().Elem()))
			into = into.Elem()
		}
		fill(into)
		r.section(group, into)
	}
	for _, g := range r.file.Groups {
		switch {
		case known[g.Name], strings.HasPrefix(g.Name, peerPrefix):
		case slices.Contains(foreign, g.Name):
			r.unused(g)
		default:
			r.warn(g.Name, keyfile.Key{Line: g.Line}, "no section has this name")
		}
	}
}

// unused warns of a section that has no effect. Empty ones NetworkManager writes by itself.
func (r *reader) unused(g keyfile.Group) {
	if len(g.Keys) > 0 {
		r.warn(g.Name, keyfile.Key{Line: g.Line}, "the section is not supported and has no effect")
	}
}

// fill sets the defaults of a section.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		switch text := v.Type().Field(i).Tag.Get("default"); {
		case text == "":
		case v.Field(i).Kind() == reflect.Bool:
			v.Field(i).SetBool(text == "true")
		case v.Field(i).Kind() == reflect.Uint64:
			n, _ := strconv.ParseUint(text, 10, 64) // of our own tags
			v.Field(i).SetUint(n)
		default:
			n, _ := strconv.ParseInt(text, 10, 64) // of our own tags
			v.Field(i).SetInt(n)
		}
	}
}

// section reads the keys of a group into the fields of into. A key that cannot be read keeps its default.
func (r *reader) section(g keyfile.Group, into reflect.Value) {
	taken := map[string]bool{}
	usual := reflect.New(into.Type()).Elem()
	fill(usual)
	var rest reflect.Value
	for i := range into.NumField() {
		field := into.Type().Field(i)
		tag := field.Tag.Get("nm")
		if tag == "*" {
			rest = into.Field(i)
			continue
		}
		if f := field.Tag.Get("family"); tag == "" || f != "" && g.Name != "ipv"+f {
			continue
		}
		if by := field.Tag.Get("by"); by == "addresses" || by == "routes" || by == "rules" {
			r.numbered(g, by, into.Addr().Interface().(*IP), taken)
			continue
		}
		for _, name := range strings.Split(tag, ",") {
			k, there := g.Key(name)
			if !there {
				continue
			}
			taken[name] = true
			if err := r.value(g, k, field, into.Field(i)); err != nil {
				r.warn(g.Name, k, "ignored: %v", err)
			} else if u := field.Tag.Get("unused"); u == "yes" || u != "" && g.Name == "ipv"+u {
				r.without(g, k, into.Field(i), usual.Field(i))
			}
		}
	}
	if into.Type() == reflect.TypeFor[IP]() {
		finishIP(g, into.Addr().Interface().(*IP))
	}
	r.leftOver(g, rest, taken)
}

// leftOver reads the keys that have no field of their own into the map of a section that takes any, or warns of them.
func (r *reader) leftOver(g keyfile.Group, rest reflect.Value, taken map[string]bool) {
	for _, k := range g.Keys {
		switch {
		case taken[k.Name]:
		case !rest.IsValid():
			if k.Name != "interface-name" && k.Name != "security" { // old: the link's name, and that there is security
				r.warn(g.Name, k, "no key of this section has this name")
			}
		default:
			text, err := k.Text()
			if err == nil && g.Name == "bond" {
				if k.Name == "interface-name" {
					continue
				}
				err = keyvalue.BondOption(k.Name, text)
			}
			if err != nil {
				r.warn(g.Name, k, "ignored: %v", err)
				continue
			}
			if rest.IsNil() {
				rest.Set(reflect.MakeMap(rest.Type()))
			}
			rest.SetMapIndex(reflect.ValueOf(k.Name), reflect.ValueOf(text))
		}
	}
}

// value reads one key into its field.
func (r *reader) value(g keyfile.Group, k keyfile.Key, field reflect.StructField, into reflect.Value) error {
	if by := field.Tag.Get("by"); by != "" {
		return r.special(g, k, by, into)
	}
	switch at := into.Addr().Interface().(type) {
	case *bool:
		return yesOrNo(k, at)
	case *int64:
		low, high := rangeOf(field.Tag.Get("range"))
		n, err := keyvalue.Number(k.Value, low, high)
		if err == nil {
			*at = n
		}
		return err
	case *uint64:
		n, err := strconv.ParseUint(strings.TrimSpace(k.Value), 10, 64)
		if err != nil {
			return errNumber
		}
		*at = n
		return nil
	case *[]string:
		list, err := k.List()
		*at = list
		return err
	case *keyvalue.MAC:
		return at.Read(k, strings.Fields(field.Tag.Get("words")))
	case *keyvalue.Raw:
		return at.Read(k)
	case *keyvalue.Cert:
		return at.Read(k)
	case *keyvalue.Secret:
		text, err := k.Text()
		*at = keyvalue.NewSecret(text)
		return err
	default: // string
		text, err := k.Text()
		into.SetString(text)
		return err
	}
}

// special reads a key that has its own form.
func (r *reader) special(g keyfile.Group, k keyfile.Key, by string, into reflect.Value) error {
	switch at := into.Addr().Interface().(type) {
	case *int64:
		switch by {
		case "parity":
			return parity(k, at)
		default:
			return addrGenMode(k, at)
		}
	case *string:
		switch by {
		case "gateway":
			return gateway(g, k, at)
		default:
			return endpoint(k, at)
		}
	case *keyvalue.Secret:
		return wireguardKey(k, at)
	case *[]string:
		if by == "search" {
			return r.search(g, k, at)
		}
		return r.dns(g, k, at)
	}
	return errors.New("no such form") // not reached: a test reads every key
}

func rangeOf(tag string) (low, high int64) {
	switch tag {
	case "int32":
		return -1 << 31, 1<<31 - 1
	case "uint32":
		return 0, 1<<32 - 1
	}
	a, b, _ := strings.Cut(tag, "..")
	low, _ = strconv.ParseInt(a, 10, 64)  // of our own tags
	high, _ = strconv.ParseInt(b, 10, 64) // of our own tags
	return low, high
}

var errNumber = errors.New("not a number")

// yesOrNo reads a boolean as GLib does.
func yesOrNo(k keyfile.Key, into *bool) error {
	switch strings.TrimRight(k.Value, " \t\v\f\r") {
	case "true", "1":
		*into = true
	case "false", "0":
		*into = false
	default:
		return errors.New("neither true nor false")
	}
	return nil
}

// misplacedName takes the name of the link from the section of the type, where old files have it.
func (r *reader) misplacedName(p *Profile) {
	if p.Connection.InterfaceName != "" || p.Connection.Type == "" {
		return
	}
	if k, there := r.key(p.Connection.Type, "interface-name"); there {
		p.Connection.InterfaceName, _ = k.Text() // one that cannot be read is none
	}
}

// secrets reads [vpn-secrets], which means nothing without [vpn].
func (r *reader) secrets(p *Profile) {
	g, there := r.file.Group("vpn-secrets")
	if !there {
		return
	}
	if p.VPN == nil {
		r.unused(g)
		return
	}
	p.VPN.Secrets = map[string]keyvalue.Secret{}
	for _, k := range g.Keys {
		text, err := k.Text()
		if err != nil {
			r.warn(g.Name, k, "ignored: %v", err)
			continue
		}
		p.VPN.Secrets[k.Name] = keyvalue.NewSecret(text)
	}
}

// Foreign reports whether NetworkManager knows a type of profiles that is not supported here.
func Foreign(t string) bool { return slices.Contains(foreign, t) }
