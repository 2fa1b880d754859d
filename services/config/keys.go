package config

import (
	"cmp"
	"slices"
	"strings"
)

// Kind is the form of a value.
type Kind string

// The kinds, and their form in JSON. A string is accepted for a number and a boolean too.
const (
	Text   Kind = "text"   // a string; a number is accepted
	Flag   Kind = "flag"   // true or false
	Number Kind = "number" // a whole number, not negative
	Words  Kind = "words"  // a string of words, or an array of strings; "null" is not a word
	Lines  Kind = "lines"  // an array of strings, or one string
	Table  Kind = "table"  // an object of strings
	Any    Kind = "any"    // any JSON: its readers check it
)

// Key is one row of the table of the keys of config.json.
type Key struct {
	Name    string
	Kind    Kind
	Default string // in JSON; empty: none
	Does    string // its effect, for people

	// Daemon, Others, Later and Refused say who uses the key; exactly one of them is set. A daemon records itself what
	// it did with a value (services/settings), so the table promises nothing that does not happen.
	Daemon string // the service that applies a change while it runs
	Others string // kept for these: this system does nothing with it
	Later  string // what must be built before it has an effect

	Refused string // why it has no effect here, by decision

	Secret bool // shown only on request

	fit fit // what a value must be in addition to its kind; nil: anything
}

const (
	supervisor = "the supervisor"
	cloud      = "the supervisor and its cloud"
)

// The names of the keys that code uses.
const (
	Hostname          = "hostname"
	UUID              = "uuid"
	SSHKeys           = "os.sshKeys"
	DeviceType        = "deviceType"
	PersistentLogging = "persistentLogging"
	LogSize           = "log.size"
	NTPServers        = "ntpServers"
	DNSServers        = "dnsServers"
	Discoverable      = "hostDiscoverability"
	ReachURL          = "os.network.connectivity.uri"
	ReachInterval     = "os.network.connectivity.interval"
	ReachResponse     = "os.network.connectivity.response"
	APIEndpoint       = "apiEndpoint"
	OpenPorts         = "os.network.openPorts"
	Country           = "country"
	RandomScan        = "os.network.wifi.randomMacAddressScan"
	DeviceRules       = "os.udevRules"
	RootCA            = "balenaRootCA"
	FirmwareVolume    = "os.kernel.extraFirmwareVol"
	FanProfile        = "os.fan.profile"
	PowerMode         = "os.power.mode"
	DevelopmentMode   = "developmentMode"
)

// Keys returns the table, in alphabetical order. It contains the keys of the reference system, whose config.json this
// system must be able to read.
func Keys() []Key {
	keys := []Key{
		{Name: Hostname, Kind: Text, Does: "name of the device; else the first seven digits of uuid", Daemon: "configd",
			fit: hostName},
		{Name: UUID, Kind: Text, Does: "identity of the device; made once", Daemon: "configd", fit: uuid},
		{Name: PersistentLogging, Kind: Flag, Default: "false", Does: "keep the log on resin-data", Daemon: "logd"},
		{Name: LogSize, Kind: Text, Does: "memory of the log's ring, like 16M; 8M if nothing is said", Daemon: "logd",
			fit: ringSize},
		{Name: NTPServers, Kind: Words, Does: "time servers, asked beside those of the system and the leases",
			Daemon: "netd", fit: hosts},
		{Name: DNSServers, Kind: Words, Default: `["8.8.8.8"]`,
			Does:   `name servers, asked before those of leases; the default: if no lease names one; "null": none`,
			Daemon: "netd", fit: addresses},
		{Name: Discoverable, Kind: Flag, Default: "true", Does: "answer for <hostname>.local and announce ssh on the " +
			"local networks (HOST_DISCOVERABILITY)", Daemon: "netd"},
		{Name: OpenPorts, Kind: Words,
			Does: "ports that anybody may reach in production, like tcp:8080 or udp:5000-5010", Daemon: "netd",
			fit: openPorts},
		{Name: SSHKeys, Kind: Lines, Does: "public keys that may log in as root", Daemon: "sshd", fit: lines},

		{Name: DeviceRules, Kind: Table, Does: "rules for devices, by name: docs/device.md", Daemon: "devd"},
		{Name: Country, Kind: Text, Does: "whose rules the radio follows: two letters of ISO 3166", Daemon: "netd",
			fit: country},
		{Name: RandomScan, Kind: Flag, Default: "true",
			Does: "look for Wi-Fi under a random address, where the radio can", Daemon: "netd"},
		{Name: ReachURL, Kind: Text,
			Does:   `URL that shows whether the internet is reached, http://…; else that of the cloud; "null": none`,
			Daemon: "netd", fit: probeURL},
		{Name: ReachInterval, Kind: Number, Default: "3600",
			Does: "seconds between two questions to which nothing depends on the answer", Daemon: "netd"},
		{Name: ReachResponse, Kind: Text, Does: "what the answer begins with; empty: status 204", Daemon: "netd"},
		{Name: RootCA, Kind: Text, Does: "a certificate authority to trust, PEM in base64", Daemon: "configd",
			fit: rootCA},
		{Name: DevelopmentMode, Kind: Flag, Default: "false", Does: "open the device for development; the default is " +
			"true in development and standalone images: docs/device.md", Daemon: "configd"},
		{Name: FirmwareVolume, Kind: Text, Does: "volume that holds more firmware: APP/VOLUME", Daemon: "devd",
			fit: firmwareVolume},
		{Name: FanProfile, Kind: Text, Does: "a profile of the board's fan, like quiet or cool", Daemon: "devd"},
		{Name: PowerMode, Kind: Text, Does: "a mode of the board, like low, mid or high", Daemon: "devd"},
		{Name: "installer.secureboot", Kind: Flag, Does: "install with secure boot", Later: "the installer"},
		{Name: "installer.migrate.force", Kind: Flag, Does: "replace the system that runs", Later: "the installer"},
		{Name: "installer.target_devices", Kind: Text, Does: "disks to install to", Later: "the installer"},
		{Name: "debug", Kind: Flag, Does: "have update hooks say what they do", Refused: "updates have no hooks"},

		{Name: DeviceType, Kind: Text, Does: "slug of the board", Others: supervisor},
		{Name: "listenPort", Kind: Number, Default: "48484", Does: "port of the supervisor's interface",
			Others: supervisor, fit: port},
		{Name: "localMode", Kind: Flag, Does: "take the app from the local network", Others: supervisor},
		{Name: "supervisorOfflineMode", Kind: Flag, Does: "neither register nor publish", Others: supervisor},
		{Name: "appUpdatePollInterval", Kind: Number, Default: "900000",
			Does: "milliseconds between two looks at the target", Others: supervisor},
		{Name: "apiTimeout", Kind: Number, Does: "milliseconds", Others: supervisor},
		{Name: "bootstrapRetryDelay", Kind: Number, Does: "milliseconds", Others: supervisor},
		{Name: "initialDeviceName", Kind: Text, Does: "name to register under", Others: supervisor},
		{Name: "applicationId", Kind: Text, Does: "fleet to register with", Others: cloud},
		{Name: "userId", Kind: Text, Does: "who registers", Others: cloud},
		{Name: "username", Kind: Text, Does: "who registers", Others: cloud},
		{Name: "deviceId", Kind: Text, Does: "number given when registered", Others: cloud},
		{Name: "registered_at", Kind: Text, Does: "when registered", Others: cloud},
		{Name: "version", Kind: Text, Does: "", Others: cloud},
		{Name: APIEndpoint, Kind: Text, Does: "the cloud's address; without it the device is unmanaged", Others: cloud},
		{Name: "registryEndpoint", Kind: Text, Does: "where container images are", Others: cloud},
		{Name: "deltaEndpoint", Kind: Text, Does: "where differences of container images are", Others: cloud},
		{Name: "logsEndpoint", Kind: Text, Does: "where logs go", Others: cloud},
		{Name: "vpnEndpoint", Kind: Text, Does: "host of the VPN", Others: cloud},
		{Name: "vpnPort", Kind: Number, Default: "443", Does: "port of the VPN", Others: cloud, fit: port},
		{Name: "apiKey", Kind: Text, Does: "key to register with", Others: cloud, Secret: true},
		{Name: "deviceApiKey", Kind: Text, Does: "key of the device", Others: cloud, Secret: true},
		{Name: "deviceApiKeys", Kind: Any, Does: "keys of the device, by host", Others: cloud, Secret: true},
		{Name: "mixpanelToken", Kind: Text, Does: "", Others: cloud, Secret: true},
		{Name: "pubnubPublishKey", Kind: Text, Does: "", Others: cloud, Secret: true},
		{Name: "pubnubSubscribeKey", Kind: Text, Does: "", Others: cloud, Secret: true},
	}
	slices.SortFunc(keys, func(a, b Key) int { return cmp.Compare(a.Name, b.Name) })
	return keys
}

// Find returns the row of a key.
func Find(name string) (Key, bool) {
	for _, k := range Keys() {
		if k.Name == name {
			return k, true
		}
	}
	return Key{}, false
}

// within reports whether a key is part of the value of another one.
func within(key, other string) bool { return strings.HasPrefix(key, other+".") }

// covers reports whether a leaf belongs to the key: it is the key itself, or part of its value.
func (k Key) covers(leaf string) bool {
	return leaf == k.Name || within(leaf, k.Name)
}
