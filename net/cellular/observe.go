// Package cellular decides what a modem is to do: it turns ModemManager's reports of modems, SIMs and bearers into
// values, and plans the next step of each. It is pure; net/modem carries the steps out.
//
// All input from ModemManager is untrusted: a value that is missing or has another type counts as not known. Read
// first: Plan.
package cellular

import (
	"cmp"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/godbus/dbus/v5"

	"resinos/net/modemstate"
)

// The interfaces and objects of ModemManager that are used.
const (
	Root      dbus.ObjectPath = "/org/freedesktop/ModemManager1"
	Interface                 = "org.freedesktop.ModemManager1"
	modem                     = Interface + ".Modem"
	threeGPP                  = modem + ".Modem3gpp"
)

// The states of a modem, of MMModemState.
const (
	stateFailed      = -1
	stateLocked      = 2
	stateDisabled    = 3
	stateSearching   = 7
	stateRegistered  = 8
	stateConnecting  = 10
	stateConnected   = 11
	lockSIMPIN       = 2 // MMModemLock: none is 1
	maxModems        = 16
	maxRetries       = 99
	maxWords         = 120
	methodPPP        = 1
	methodStatic     = 2
	methodDHCP       = 3
	registrationRoam = 5
)

// Properties are those of one interface of an object.
type Properties map[string]dbus.Variant

// get returns a property, or the zero value if it is missing or of another type.
func get[T any](p Properties, name string) T {
	v, _ := p[name].Value().(T)
	return v
}

// Modem is what ModemManager says of a modem.
type Modem struct {
	Path    dbus.ObjectPath
	State   int
	Failure uint32 // of a modem that has failed
	Lock    uint32 // what it asks for
	Retries int    // of the PIN; -1: not known

	Device     string // the hardware's path in sysfs
	DeviceID   string
	IMEI       string
	Model      string
	Port       string
	Ports      []string
	SIM        dbus.ObjectPath // empty: none
	Bearers    []dbus.ObjectPath
	Signal     int
	Technology string
	Operator   string
	Roaming    bool
}

// SIM is what ModemManager says of a SIM.
type SIM struct {
	ID, Operator string
}

// Bearer is what ModemManager says of a connection.
type Bearer struct {
	Path      dbus.ObjectPath
	Connected bool
	Port      string // a serial line for pppd, or the link
	PPP       bool
	IP        modemstate.Bearer
}

// Modems reads the reply of GetManagedObjects.
func Modems(reply []any) []Modem {
	if len(reply) == 0 {
		return nil
	}
	objects, _ := reply[0].(map[dbus.ObjectPath]map[string]map[string]dbus.Variant)
	var out []Modem
	for path, interfaces := range objects {
		if p, there := interfaces[modem]; there && len(out) < maxModems {
			out = append(out, read(path, p, interfaces[threeGPP]))
		}
	}
	slices.SortStableFunc(out, func(a, b Modem) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

func read(path dbus.ObjectPath, p, three Properties) Modem {
	m := Modem{Path: path, State: int(get[int32](p, "State")), Failure: get[uint32](p, "StateFailedReason"),
		Lock: get[uint32](p, "UnlockRequired"), Retries: -1, Device: get[string](p, "Device"),
		DeviceID: get[string](p, "DeviceIdentifier"), IMEI: get[string](p, "EquipmentIdentifier"),
		Model: Printable(get[string](p, "Model")), Port: get[string](p, "PrimaryPort"),
		Technology: technology(get[uint32](p, "AccessTechnologies")),
		Operator:   Printable(get[string](three, "OperatorName")),
		Roaming:    get[uint32](three, "RegistrationState") == registrationRoam}
	if left, known := get[map[uint32]uint32](p, "UnlockRetries")[lockSIMPIN]; known {
		m.Retries = int(min(left, maxRetries))
	}
	for _, port := range get[[][]any](p, "Ports") { // (su): name, type
		if name, is := first(port).(string); is {
			m.Ports = append(m.Ports, name)
		}
	}
	if sim := get[dbus.ObjectPath](p, "Sim"); sim != "/" {
		m.SIM = sim
	}
	m.Bearers = get[[]dbus.ObjectPath](p, "Bearers")
	if q := get[[]any](p, "SignalQuality"); len(q) > 0 { // (ub): percent, recent
		percent, _ := q[0].(uint32)
		m.Signal = int(min(percent, 100))
	}
	return m
}

func first(list []any) any {
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// ReadSIM reads the reply of GetAll for a SIM.
func ReadSIM(reply []any) SIM {
	p, _ := first(reply).(map[string]dbus.Variant)
	return SIM{ID: get[string](p, "SimIdentifier"), Operator: get[string](p, "OperatorIdentifier")}
}

// ReadBearer reads the reply of GetAll for a bearer. A link or serial line whose name is no name is dropped.
func ReadBearer(path dbus.ObjectPath, reply []any) Bearer {
	p, _ := first(reply).(map[string]dbus.Variant)
	b := Bearer{Path: path, Connected: get[bool](p, "Connected"), Port: get[string](p, "Interface")}
	if !validPort(b.Port) {
		b.Port, b.Connected = "", false
	}
	ip := Properties(get[map[string]dbus.Variant](p, "Ip4Config"))
	switch get[uint32](ip, "method") {
	case methodPPP:
		b.PPP = true
		return b
	case methodDHCP:
		b.IP.DHCP = true
	case methodStatic:
		b.static(ip)
	}
	b.IP.Link = b.Port
	return b
}

// static takes over the addresses that a modem names.
func (b *Bearer) static(ip Properties) {
	address, err := netip.ParseAddr(get[string](ip, "address"))
	length := get[uint32](ip, "prefix")
	if err != nil || !address.Is4() || length > 32 {
		return
	}
	b.IP.Address = netip.PrefixFrom(address, int(length))
	if gateway, err := netip.ParseAddr(get[string](ip, "gateway")); err == nil && gateway.Is4() {
		b.IP.Gateway = gateway
	}
	for _, name := range []string{"dns1", "dns2", "dns3"} {
		if server, err := netip.ParseAddr(get[string](ip, name)); err == nil && Usable(server) {
			b.IP.Servers = append(b.IP.Servers, server)
		}
	}
	if mtu := get[uint32](ip, "mtu"); mtu >= 576 && mtu <= 9216 {
		b.IP.MTU = int(mtu)
	}
}

// Usable reports whether a name server of a network can be one.
func Usable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && a.Zone() == ""
}

// validPort reports whether a name can be one of the kernel's: it becomes part of a path.
func validPort(name string) bool {
	return name != "" && len(name) < 32 && name == filepath.Base(name) && name[0] != '.' &&
		!strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
}

// Printable shortens what a modem or a network says, and replaces what is not printable.
func Printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.TrimSpace(strings.ToValidUTF8(text, "?")))
	for i := range text {
		if i >= maxWords {
			return text[:i] + "…"
		}
	}
	return text
}

// technology names the newest of a set of MMModemAccessTechnology.
func technology(set uint32) string {
	names := []struct {
		bits uint32
		name string
	}{{1 << 15, "5G"}, {1<<14 | 1<<16 | 1<<17, "LTE"}, {0xf << 5, "3G"}, {0x1e, "2G"}}
	for _, n := range names {
		if set&n.bits != 0 {
			return n.name
		}
	}
	return ""
}

// Identity is the text under which a try of a PIN is remembered: the SIM's number, else the modem's.
func (m Modem) Identity(s SIM) string { return cmp.Or(s.ID, "modem "+m.IMEI) }
