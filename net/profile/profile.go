// Package profile owns the sections and keys of key files: Parse turns a file into a Profile, the wanted configuration
// of a link, and File turns it back. A key that cannot be used or has no effect here is a Warning.
//
// It does not judge whether a profile can work (profilecheck does), reads no files, looks at no links, and shows no
// secrets: these are of the type keyvalue.Secret.
//
// Read first: Profile.
package profile

import (
	"net/netip"

	"resinos/net/keyvalue"
)

// Profile is one key file. The tags name the keys; a section that the file lacks is nil. What is tagged unused is read
// and written, but nothing acts on it: Parse warns of it, in the section ipv6 only if the tag is 6.
type Profile struct {
	Connection Connection `nm:"connection"`
	Match      *Match     `nm:"match"`
	Ethernet   *Ethernet  `nm:"ethernet,802-3-ethernet"`
	WiFi       *WiFi      `nm:"wifi,802-11-wireless"`
	Security   *Security  `nm:"wifi-security,802-11-wireless-security"`
	EAP        *EAP       `nm:"802-1x"`
	GSM        *GSM       `nm:"gsm"`
	Serial     *serial    `nm:"serial" unused:"yes"`
	PPP        *ppp       `nm:"ppp" unused:"yes"`
	VPN        *VPN       `nm:"vpn"`
	WireGuard  *WireGuard `nm:"wireguard"`
	Bridge     *Bridge    `nm:"bridge"`
	BridgePort *Port      `nm:"bridge-port"`
	VLAN       *VLAN      `nm:"vlan"`
	Bond       *Bond      `nm:"bond"`
	BondPort   *BondPort  `nm:"bond-port"`
	Dummy      *struct{}  `nm:"dummy"`
	IPv4       *IP        `nm:"ipv4"`
	IPv6       *IP        `nm:"ipv6"`
}

// The types of profiles that are read. All other types of NetworkManager are refused by name.
const (
	TypeEthernet  = "802-3-ethernet"
	TypeWiFi      = "802-11-wireless"
	TypeGSM       = "gsm"
	TypeVPN       = "vpn"
	TypeWireGuard = "wireguard"
	TypeBridge    = "bridge"
	TypeVLAN      = "vlan"
	TypeBond      = "bond"
	TypeDummy     = "dummy"
)

// Connection is the section [connection].
type Connection struct {
	ID                string   `nm:"id"`
	UUID              string   `nm:"uuid"`
	Type              string   `nm:"type"`
	InterfaceName     string   `nm:"interface-name"`
	Autoconnect       bool     `nm:"autoconnect" default:"true"`
	Priority          int64    `nm:"autoconnect-priority" range:"-999..999"`
	Retries           int64    `nm:"autoconnect-retries" range:"-1..2147483647" default:"-1" unused:"yes"`
	Permissions       []string `nm:"permissions" unused:"yes"`
	Controller        string   `nm:"master,controller"`
	PortType          string   `nm:"slave-type,port-type"`
	AutoconnectPorts  int64    `nm:"autoconnect-slaves,autoconnect-ports" range:"-1..1" default:"-1"`
	AuthRetries       int64    `nm:"auth-retries" range:"-1..2147483647" default:"-1" unused:"yes"`
	DNSOverTLS        int64    `nm:"dns-over-tls" range:"int32" default:"-1" unused:"yes"`
	PingTimeout       int64    `nm:"gateway-ping-timeout" range:"0..600" unused:"yes"`
	LLDP              int64    `nm:"lldp" range:"int32" default:"-1" unused:"yes"`
	LLMNR             int64    `nm:"llmnr" range:"int32" default:"-1" unused:"yes"`
	MDNS              int64    `nm:"mdns" range:"int32" default:"-1"`
	Metered           int64    `nm:"metered" range:"0..4" unused:"yes"`
	MPTCP             int64    `nm:"mptcp-flags" range:"uint32" unused:"yes"`
	MUD               string   `nm:"mud-url" unused:"yes"`
	MultiConnect      int64    `nm:"multi-connect" range:"int32"`
	Secondaries       []string `nm:"secondaries"`
	StableID          string   `nm:"stable-id"`
	Timestamp         uint64   `nm:"timestamp" range:"uint64"` // when it was last used; left out on purpose
	WaitActivation    int64    `nm:"wait-activation-delay" range:"-1..2147483647" default:"-1" unused:"yes"`
	WaitDeviceTimeout int64    `nm:"wait-device-timeout" range:"-1..2147483647" default:"-1" unused:"yes"`
	Zone              string   `nm:"zone" unused:"yes"`
}

// Match is the section [match]: patterns, of which one of each kind must match the link.
type Match struct {
	Drivers        []string `nm:"driver"`
	InterfaceNames []string `nm:"interface-name"`
	CommandLine    []string `nm:"kernel-command-line"`
	Paths          []string `nm:"path"`
}

// Ethernet is the section [ethernet].
type Ethernet struct {
	Promiscuous   int64        `nm:"accept-all-mac-addresses" range:"-1..1" default:"-1"`
	AutoNegotiate bool         `nm:"auto-negotiate"`
	ClonedMAC     keyvalue.MAC `nm:"cloned-mac-address" words:"preserve permanent random stable"`
	Duplex        string       `nm:"duplex"`
	MACMask       string       `nm:"generate-mac-address-mask"`
	MAC           keyvalue.MAC `nm:"mac-address"`
	MACDenied     []string     `nm:"mac-address-blacklist,mac-address-denylist"`
	MTU           int64        `nm:"mtu" range:"uint32"`
	Port          string       `nm:"port" unused:"yes"`
	Speed         int64        `nm:"speed" range:"uint32"`
	WakeOnLAN     int64        `nm:"wake-on-lan" range:"uint32" default:"1"`
	WakePassword  string       `nm:"wake-on-lan-password"`
	S390Nettype   string       `nm:"s390-nettype" unused:"yes"`
	S390Channels  []string     `nm:"s390-subchannels" unused:"yes"`
}

// IP is the section [ipv4] or [ipv6]; some of the keys belong to one of them only.
type IP struct {
	Method          string          `nm:"method"`
	Addresses       []netip.Prefix  `nm:"addresses" by:"addresses"`
	Gateway         string          `nm:"gateway" by:"gateway"`
	Routes          []Route         `nm:"routes" by:"routes"`
	Rules           []keyvalue.Rule `nm:"routing-rules" by:"rules"`
	DNS             []string        `nm:"dns" by:"dns"`
	Search          []string        `nm:"dns-search" by:"search"`
	DNSOptions      []string        `nm:"dns-options"`
	DNSPriority     int64           `nm:"dns-priority" range:"int32"`
	NeverDefault    bool            `nm:"never-default"`
	IgnoreDNS       bool            `nm:"ignore-auto-dns"`
	IgnoreRoutes    bool            `nm:"ignore-auto-routes"`
	Metric          int64           `nm:"route-metric" range:"-1..4294967295" default:"-1"`
	Table           int64           `nm:"route-table" range:"uint32"`
	MayFail         bool            `nm:"may-fail" default:"true" unused:"yes"`
	DADTimeout      int64           `nm:"dad-timeout" range:"-1..30000" default:"-1"`
	RequiredTimeout int64           `nm:"required-timeout" range:"-1..2147483647" default:"-1" unused:"yes"`
	AutoRouteExtGw  int64           `nm:"auto-route-ext-gw" range:"-1..1" default:"-1" unused:"yes"`
	LocalRule       int64           `nm:"replace-local-rule" range:"-1..1" default:"-1" unused:"yes"`

	DHCPHostname string   `nm:"dhcp-hostname"`
	SendHostname bool     `nm:"dhcp-send-hostname" default:"true"`
	HostnameFlag int64    `nm:"dhcp-hostname-flags" range:"uint32" unused:"6"`
	DHCPTimeout  int64    `nm:"dhcp-timeout" range:"0..2147483647" unused:"yes"`
	IAID         string   `nm:"dhcp-iaid" unused:"6"`
	Rejected     []string `nm:"dhcp-reject-servers" unused:"6"`
	ClientID     string   `nm:"dhcp-client-id" family:"4"`
	FQDN         string   `nm:"dhcp-fqdn" family:"4"`
	VendorClass  string   `nm:"dhcp-vendor-class-identifier" family:"4"`
	LinkLocal    int64    `nm:"link-local" range:"int32" family:"4"`

	AddrGenMode int64  `nm:"addr-gen-mode" by:"addrGenMode" family:"6"`
	DUID        string `nm:"dhcp-duid" family:"6"`
	PDHint      string `nm:"dhcp-pd-hint" family:"6"`
	Privacy     int64  `nm:"ip6-privacy" range:"-1..2" default:"-1" family:"6"`
	MTU         int64  `nm:"mtu" range:"uint32" family:"6"`
	RATimeout   int64  `nm:"ra-timeout" range:"0..2147483647" family:"6" unused:"yes"`
	Token       string `nm:"token" family:"6"`
}

// The methods of IP.
const (
	Auto      = "auto"
	DHCP      = "dhcp"
	Manual    = "manual"
	LinkLocal = "link-local"
	Shared    = "shared"
	Disabled  = "disabled"
	Ignore    = "ignore"
)

// WiFi is the section [wifi].
type WiFi struct {
	APIsolation   int64        `nm:"ap-isolation" range:"-1..1" default:"-1" unused:"yes"`
	Band          string       `nm:"band"`
	BSSID         keyvalue.MAC `nm:"bssid"`
	Channel       int64        `nm:"channel" range:"uint32"`
	ClonedMAC     keyvalue.MAC `nm:"cloned-mac-address" words:"preserve permanent random stable"`
	MACMask       string       `nm:"generate-mac-address-mask" unused:"yes"`
	Hidden        bool         `nm:"hidden"`
	MAC           keyvalue.MAC `nm:"mac-address"`
	MACDenied     []string     `nm:"mac-address-blacklist,mac-address-denylist"`
	Randomization int64        `nm:"mac-address-randomization" range:"uint32" unused:"yes"`
	Mode          string       `nm:"mode"`
	MTU           int64        `nm:"mtu" range:"uint32"`
	Powersave     int64        `nm:"powersave" range:"uint32"`
	Rate          int64        `nm:"rate" range:"uint32" unused:"yes"`
	SSID          keyvalue.Raw `nm:"ssid"`
	TxPower       int64        `nm:"tx-power" range:"uint32" unused:"yes"`
	WakeOnWLAN    int64        `nm:"wake-on-wlan" range:"uint32" default:"1" unused:"yes"`
}

// Security is the section [wifi-security].
type Security struct {
	AuthAlg      string          `nm:"auth-alg"`
	FILS         int64           `nm:"fils" range:"int32" unused:"yes"`
	Group        []string        `nm:"group"`
	KeyMgmt      string          `nm:"key-mgmt"`
	LEAPPassword keyvalue.Secret `nm:"leap-password" unused:"yes"`
	LEAPFlags    int64           `nm:"leap-password-flags" range:"0..7" unused:"yes"`
	LEAPUsername string          `nm:"leap-username" unused:"yes"`
	Pairwise     []string        `nm:"pairwise"`
	PMF          int64           `nm:"pmf" range:"int32"`
	Proto        []string        `nm:"proto"`
	PSK          keyvalue.Secret `nm:"psk"`
	PSKFlags     int64           `nm:"psk-flags" range:"0..7"`
	WEPFlags     int64           `nm:"wep-key-flags" range:"0..7"`
	WEPType      int64           `nm:"wep-key-type" range:"0..2"`
	WEPKey0      keyvalue.Secret `nm:"wep-key0"`
	WEPKey1      keyvalue.Secret `nm:"wep-key1"`
	WEPKey2      keyvalue.Secret `nm:"wep-key2"`
	WEPKey3      keyvalue.Secret `nm:"wep-key3"`
	WEPIndex     int64           `nm:"wep-tx-keyidx" range:"0..3"`
	WPS          int64           `nm:"wps-method" range:"uint32" unused:"yes"`
}

// EAP is the section [802-1x]. The certificates are as written: a path, "file://PATH", or "data:;base64,…".
type EAP struct {
	AltSubject        []string        `nm:"altsubject-matches"`
	AnonymousIdentity string          `nm:"anonymous-identity"`
	AuthTimeout       int64           `nm:"auth-timeout" range:"0..2147483647" unused:"yes"`
	CACert            keyvalue.Cert   `nm:"ca-cert"`
	CAPassword        keyvalue.Secret `nm:"ca-cert-password" unused:"yes"`
	CAPasswordFlags   int64           `nm:"ca-cert-password-flags" range:"0..7" unused:"yes"`
	CAPath            string          `nm:"ca-path" unused:"yes"`
	ClientCert        keyvalue.Cert   `nm:"client-cert"`
	ClientPassword    keyvalue.Secret `nm:"client-cert-password" unused:"yes"`
	ClientFlags       int64           `nm:"client-cert-password-flags" range:"0..7" unused:"yes"`
	DomainMatch       string          `nm:"domain-match"`
	DomainSuffix      string          `nm:"domain-suffix-match"`
	Methods           []string        `nm:"eap"`
	Identity          string          `nm:"identity"`
	Optional          bool            `nm:"optional" unused:"yes"`
	PACFile           string          `nm:"pac-file" unused:"yes"`
	Password          keyvalue.Secret `nm:"password"`
	PasswordFlags     int64           `nm:"password-flags" range:"0..7"`
	PasswordRaw       keyvalue.Secret `nm:"password-raw"`
	PasswordRawFlags  int64           `nm:"password-raw-flags" range:"0..7" unused:"yes"`
	Phase1Flags       int64           `nm:"phase1-auth-flags" range:"uint32"`
	Phase1Fast        string          `nm:"phase1-fast-provisioning"`
	Phase1PEAPLabel   string          `nm:"phase1-peaplabel"`
	Phase1PEAPVer     string          `nm:"phase1-peapver"`
	Phase2AltSubject  []string        `nm:"phase2-altsubject-matches"`
	Phase2Auth        string          `nm:"phase2-auth"`
	Phase2AuthEAP     string          `nm:"phase2-autheap"`
	Phase2CACert      keyvalue.Cert   `nm:"phase2-ca-cert"`
	Phase2CAPassword  keyvalue.Secret `nm:"phase2-ca-cert-password" unused:"yes"`
	Phase2CAFlags     int64           `nm:"phase2-ca-cert-password-flags" range:"0..7" unused:"yes"`
	Phase2CAPath      string          `nm:"phase2-ca-path" unused:"yes"`
	Phase2Client      keyvalue.Cert   `nm:"phase2-client-cert"`
	Phase2ClientPass  keyvalue.Secret `nm:"phase2-client-cert-password" unused:"yes"`
	Phase2ClientFlags int64           `nm:"phase2-client-cert-password-flags" range:"0..7" unused:"yes"`
	Phase2Domain      string          `nm:"phase2-domain-match"`
	Phase2Suffix      string          `nm:"phase2-domain-suffix-match"`
	Phase2Key         keyvalue.Cert   `nm:"phase2-private-key"`
	Phase2KeyPassword keyvalue.Secret `nm:"phase2-private-key-password"`
	Phase2KeyFlags    int64           `nm:"phase2-private-key-password-flags" range:"0..7" unused:"yes"`
	Phase2Subject     string          `nm:"phase2-subject-match"`
	PIN               keyvalue.Secret `nm:"pin" unused:"yes"`
	PINFlags          int64           `nm:"pin-flags" range:"0..7" unused:"yes"`
	PrivateKey        keyvalue.Cert   `nm:"private-key"`
	KeyPassword       keyvalue.Secret `nm:"private-key-password"`
	KeyFlags          int64           `nm:"private-key-password-flags" range:"0..7" unused:"yes"`
	SubjectMatch      string          `nm:"subject-match"`
	SystemCAs         bool            `nm:"system-ca-certs"`
}

// GSM is the section [gsm].
type GSM struct {
	APN           string          `nm:"apn"`
	AutoConfig    bool            `nm:"auto-config" unused:"yes"`
	DeviceID      string          `nm:"device-id"`
	HomeOnly      bool            `nm:"home-only"`
	MTU           int64           `nm:"mtu" range:"uint32"`
	NetworkID     string          `nm:"network-id"`
	Number        string          `nm:"number" unused:"yes"`
	Password      keyvalue.Secret `nm:"password"`
	PasswordFlags int64           `nm:"password-flags" range:"0..7" unused:"yes"`
	PIN           keyvalue.Secret `nm:"pin"`
	PINFlags      int64           `nm:"pin-flags" range:"0..7" unused:"yes"`
	SIM           string          `nm:"sim-id"`
	SIMOperator   string          `nm:"sim-operator-id"`
	Username      string          `nm:"username"`
}

type serial struct {
	Baud      int64  `nm:"baud" range:"uint32" default:"57600"`
	Bits      int64  `nm:"bits" range:"5..8" default:"8"`
	Parity    int64  `nm:"parity" by:"parity"`
	SendDelay uint64 `nm:"send-delay" range:"uint64"`
	StopBits  int64  `nm:"stopbits" range:"1..2" default:"1"`
}

type ppp struct {
	Baud           int64 `nm:"baud" range:"uint32"`
	CRTSCTS        bool  `nm:"crtscts"`
	EchoFailure    int64 `nm:"lcp-echo-failure" range:"uint32"`
	EchoInterval   int64 `nm:"lcp-echo-interval" range:"uint32"`
	MPPEStateful   bool  `nm:"mppe-stateful"`
	MRU            int64 `nm:"mru" range:"0..16384"`
	MTU            int64 `nm:"mtu" range:"uint32"`
	NoVJComp       bool  `nm:"no-vj-comp"`
	NoAuth         bool  `nm:"noauth" default:"true"`
	NoBSDComp      bool  `nm:"nobsdcomp"`
	NoDeflate      bool  `nm:"nodeflate"`
	RefuseCHAP     bool  `nm:"refuse-chap"`
	RefuseEAP      bool  `nm:"refuse-eap"`
	RefuseMSCHAP   bool  `nm:"refuse-mschap"`
	RefuseMSCHAPv2 bool  `nm:"refuse-mschapv2"`
	RefusePAP      bool  `nm:"refuse-pap"`
	RequireMPPE    bool  `nm:"require-mppe"`
	RequireMPPE128 bool  `nm:"require-mppe-128"`
}

// VPN is the sections [vpn] and [vpn-secrets]. Data holds the keys of the kind of VPN.
type VPN struct {
	ServiceType string            `nm:"service-type"`
	UserName    string            `nm:"user-name" unused:"yes"`
	Persistent  bool              `nm:"persistent" unused:"yes"`
	Timeout     int64             `nm:"timeout" range:"uint32" unused:"yes"`
	Data        map[string]string `nm:"*"`
	Secrets     map[string]keyvalue.Secret
}

// WireGuard is the section [wireguard] and the sections [wireguard-peer.KEY].
type WireGuard struct {
	FWMark           int64           `nm:"fwmark" range:"uint32"`
	IPv4DefaultRoute int64           `nm:"ip4-auto-default-route" range:"-1..1" default:"-1"`
	IPv6DefaultRoute int64           `nm:"ip6-auto-default-route" range:"-1..1" default:"-1"`
	ListenPort       int64           `nm:"listen-port" range:"0..65535"`
	MTU              int64           `nm:"mtu" range:"uint32"`
	PeerRoutes       bool            `nm:"peer-routes" default:"true"`
	PrivateKey       keyvalue.Secret `nm:"private-key"`
	PrivateKeyFlags  int64           `nm:"private-key-flags" range:"0..7"`
	Peers            []Peer
}

// Peer is one section [wireguard-peer.KEY].
type Peer struct {
	PublicKey  string
	Preshared  keyvalue.Secret `nm:"preshared-key" by:"wireguardKey"`
	PSKFlags   int64           `nm:"preshared-key-flags" range:"0..7" default:"4"`
	Keepalive  int64           `nm:"persistent-keepalive" range:"uint32"`
	Endpoint   string          `nm:"endpoint" by:"endpoint"`
	AllowedIPs []netip.Prefix  `nm:"allowed-ips"`
}

// Bridge is the section [bridge].
type Bridge struct {
	AgeingTime         int64        `nm:"ageing-time" range:"0..1000000" default:"300"`
	ForwardDelay       int64        `nm:"forward-delay" range:"0..30" default:"15"`
	GroupAddress       string       `nm:"group-address"`
	GroupForwardMask   int64        `nm:"group-forward-mask" range:"0..65535"`
	HelloTime          int64        `nm:"hello-time" range:"0..10" default:"2"`
	MAC                keyvalue.MAC `nm:"mac-address"`
	MaxAge             int64        `nm:"max-age" range:"0..40" default:"20"`
	MulticastHashMax   int64        `nm:"multicast-hash-max" range:"1..4294967295" default:"4096"`
	MulticastLastCount int64        `nm:"multicast-last-member-count" range:"uint32" default:"2"`
	MulticastLastTime  uint64       `nm:"multicast-last-member-interval" range:"uint64" default:"100"`
	MulticastMembers   uint64       `nm:"multicast-membership-interval" range:"uint64" default:"26000"`
	MulticastQuerier   bool         `nm:"multicast-querier"`
	MulticastQuerying  uint64       `nm:"multicast-querier-interval" range:"uint64" default:"25500"`
	MulticastQueryTime uint64       `nm:"multicast-query-interval" range:"uint64" default:"12500"`
	MulticastAnswers   uint64       `nm:"multicast-query-response-interval" range:"uint64" default:"1000"`
	MulticastUseIfaddr bool         `nm:"multicast-query-use-ifaddr"`
	MulticastRouter    string       `nm:"multicast-router"`
	MulticastSnooping  bool         `nm:"multicast-snooping" default:"true"`
	MulticastStarts    int64        `nm:"multicast-startup-query-count" range:"uint32" default:"2"`
	MulticastStart     uint64       `nm:"multicast-startup-query-interval" range:"uint64" default:"3125"`
	Priority           int64        `nm:"priority" range:"0..65535" default:"32768"`
	STP                bool         `nm:"stp" default:"true"`
	VLANDefaultPVID    int64        `nm:"vlan-default-pvid" range:"0..4094" default:"1"`
	VLANFiltering      bool         `nm:"vlan-filtering"`
	VLANProtocol       string       `nm:"vlan-protocol"`
	VLANStats          bool         `nm:"vlan-stats-enabled"`
	VLANs              string       `nm:"vlans"`
}

// Port is the section [bridge-port].
type Port struct {
	Hairpin  bool   `nm:"hairpin-mode"`
	PathCost int64  `nm:"path-cost" range:"0..65535" default:"100"`
	Priority int64  `nm:"priority" range:"0..63" default:"32"`
	VLANs    string `nm:"vlans"`
}

// VLAN is the section [vlan].
type VLAN struct {
	Egress   []string `nm:"egress-priority-map"`
	Flags    int64    `nm:"flags" range:"0..15" default:"1"`
	ID       int64    `nm:"id" range:"0..4095"`
	Ingress  []string `nm:"ingress-priority-map"`
	Parent   string   `nm:"parent"`
	Protocol string   `nm:"protocol"`
}

// Bond is the section [bond]: the options of the kernel's driver by name.
type Bond struct {
	Options map[string]string `nm:"*"`
}

// BondPort is the section [bond-port].
type BondPort struct {
	Priority int64 `nm:"prio" range:"int32"`
	QueueID  int64 `nm:"queue-id" range:"0..65535"`
}
