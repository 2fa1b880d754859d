// Package netcontrol owns what netd answers on its socket: the operations on links and profiles, their arguments and
// results as types, and a client with a method for each. The protocol is that of services/control: JSON lines,
// versioned, root only. It links nothing of netd. Read Client first.
package netcontrol

import (
	"cmp"
	"context"
	"time"

	"resinos/services/control"
)

// SocketPath is netd's socket on the device.
const SocketPath = "/run/resinos/net.sock"

// The operations. Up and Down take a Name.
const (
	OpStatus = "status"
	OpPlan   = "plan"
	OpUp     = "up"
	OpDown   = "down"
	OpReload = "reload"
	// OpWireGuardKey makes a pair of keys, a KeyPair, and keeps nothing of it.
	OpWireGuardKey = "wireguard-key"
	OpScan         = "scan" // the result is a list of AccessPoint
)

// Name is a profile: the name of its file, its id, its UUID, or the link that it is in force on.
type Name struct {
	Name string `json:"name"`
}

// Status is the network at one glance.
type Status struct {
	Links    []Link    `json:"links"`
	Profiles []Profile `json:"profiles"`
	Servers  []string  `json:"name_servers"` // of the links, in the order of asking
	Rules    []string  `json:"rules,omitempty"`
	Filter   []Rules   `json:"filter,omitempty"` // the owner's files of the packet filter
	Faults   []string  `json:"faults,omitempty"` // of what concerns no single link
	Proxy    string    `json:"proxy,omitempty"`  // that connections are led through, as in "socks5 10.0.0.1:1080"
	Modems   []Modem   `json:"modems,omitempty"`
}

// Link is one link.
type Link struct {
	Name      string   `json:"name"`
	Kind      string   `json:"kind"`
	Up        bool     `json:"up"`
	Carrier   bool     `json:"carrier"`
	Hardware  string   `json:"hardware,omitempty"`
	MTU       int      `json:"mtu"`
	Managed   bool     `json:"managed"`           // netd configures it
	File      string   `json:"file,omitempty"`    // its key file; empty: it has none
	Profile   string   `json:"profile,omitempty"` // the id in that file
	Method    string   `json:"method,omitempty"`  // where its IPv4 address comes from
	Addresses []string `json:"addresses"`
	Routes    []string `json:"routes"` // those that netd set, and the default routes of IPv6 routers
	Servers   []string `json:"name_servers,omitempty"`
	Search    []string `json:"search,omitempty"`
	Prefixes  []string `json:"delegated,omitempty"` // what a server has delegated, or what it has of that
	Guests    []Guest  `json:"guests,omitempty"`    // of a shared link: who has an address of it
	Peers     []Peer   `json:"peers,omitempty"`     // of a wireguard link
	Notes     []string `json:"notes,omitempty"`     // what its profile asks for and does not get
	Error     string   `json:"error,omitempty"`     // why it is not as wanted
	Radio     *Radio   `json:"radio,omitempty"`     // nil: it is none, or nothing is wanted of it

	Reach       string `json:"reach,omitempty"`        // how far it gets: full, gateway, portal, limited, none, or -
	ReachReason string `json:"reach_reason,omitempty"` // why no further; it may contain what a stranger sent
	Lowered     bool   `json:"lowered,omitempty"`      // its default routes have lost their priority
}

// Guest is a station that has an address of a shared link.
type Guest struct {
	Address  string `json:"address"`
	Hardware string `json:"hardware"`
	Name     string `json:"name,omitempty"` // that it gives itself
}

// Peer is one peer of a wireguard link.
type Peer struct {
	Key       string    `json:"public_key"`
	Endpoint  string    `json:"endpoint,omitempty"`      // empty: not known yet
	Handshake time.Time `json:"last_handshake,omitzero"` // zero: none so far
	Received  uint64    `json:"received"`                // bytes
	Sent      uint64    `json:"sent"`
}

// KeyPair is a new pair of keys of wireguard, in base64.
type KeyPair struct {
	Private string `json:"private"`
	Public  string `json:"public"`
}

// Rules is one file with the owner's rules of the packet filter.
type Rules struct {
	File   string   `json:"file"`
	Tables []string `json:"tables,omitempty"` // that it made
	Error  string   `json:"error,omitempty"`  // why the file as it is now is refused
}

// Radio is what a radio does.
type Radio struct {
	State     string `json:"state"` // idle, starting, searching, joining, joined, access point, refused
	File      string `json:"file,omitempty"`
	SSID      string `json:"ssid,omitempty"`
	BSSID     string `json:"bssid,omitempty"`
	Frequency int    `json:"mhz,omitempty"`
	Signal    int    `json:"dbm,omitempty"`
	Reason    string `json:"reason,omitempty"` // why it has not joined
	Words     string `json:"words"`            // all of it in a line
}

// Modem is what a modem does.
type Modem struct {
	Port       string `json:"port"`  // such as ttyUSB0
	State      string `json:"state"` // idle, starting, locked, searching, connecting, connected, failed
	File       string `json:"file,omitempty"`
	Link       string `json:"link,omitempty"` // that it is connected through
	Operator   string `json:"operator,omitempty"`
	Technology string `json:"technology,omitempty"`
	Roaming    bool   `json:"roaming,omitempty"`
	Signal     int    `json:"signal_percent,omitempty"`
	Reason     string `json:"reason,omitempty"` // why it is not connected
	Words      string `json:"words"`            // all of it in a line
}

// AccessPoint is one that a scan has found.
type AccessPoint struct {
	SSID      string `json:"ssid"` // empty: it hides its name
	BSSID     string `json:"bssid"`
	Frequency int    `json:"mhz"`
	Signal    int    `json:"dbm"`
	Security  string `json:"security"` // open, wep, psk, sae, owe or eap
}

// Profile is one key file.
type Profile struct {
	File     string   `json:"file"`
	ID       string   `json:"id,omitempty"`
	Type     string   `json:"type,omitempty"`
	Links    []string `json:"links,omitempty"` // on which it is in force
	State    string   `json:"state"`           // in words
	Error    string   `json:"error,omitempty"` // why the file as it is now is refused
	Fault    string   `json:"fault,omitempty"` // why the link that it asks for is not as wanted
	Warnings []string `json:"warnings,omitempty"`
}

// Planned is what one profile gives its link.
type Planned struct {
	File  string   `json:"file"`
	Link  string   `json:"link,omitempty"`
	Steps []string `json:"steps"`   // from a fresh link
	Left  []string `json:"missing"` // those of them that have not been done
}

// Client asks netd. A refusal is a *control.Error.
type Client struct {
	Socket string // empty is SocketPath
}

func (c Client) call(ctx context.Context, op string, args, result any) error {
	return control.Call(ctx, cmp.Or(c.Socket, SocketPath), op, args, result)
}

// Status shows the network.
func (c Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.call(ctx, OpStatus, nil, &s)
	return s, err
}

// Plan shows what every profile gives its link.
func (c Client) Plan(ctx context.Context) ([]Planned, error) {
	var p []Planned
	err := c.call(ctx, OpPlan, nil, &p)
	return p, err
}

// Change carries out up or down.
func (c Client) Change(ctx context.Context, op, name string) error {
	return c.call(ctx, op, Name{name}, nil)
}

// Scan looks which access points are in range, the best signal first. It takes some seconds.
func (c Client) Scan(ctx context.Context) ([]AccessPoint, error) {
	var found []AccessPoint
	err := c.call(ctx, OpScan, nil, &found)
	return found, err
}

// Reload reads the key files again.
func (c Client) Reload(ctx context.Context) error { return c.call(ctx, OpReload, nil, nil) }

// WireGuardKey returns a new pair of keys.
func (c Client) WireGuardKey(ctx context.Context) (KeyPair, error) {
	var k KeyPair
	err := c.call(ctx, OpWireGuardKey, nil, &k)
	return k, err
}
