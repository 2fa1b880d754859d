// Package app owns what an app is: compose.yaml in, a typed App out. It never reads a file, the
// environment or the network, and knows nothing of containerd. Read App first.
//
// The decoding rules (interpolation, word splitting, mappings, durations) are compose-go's. Its
// loader is not linked: the JSON schema library behind it costs 15 ms of package start natively,
// in both programs that share the engine's binary, at every boot. What the schema would check,
// the table in keys.go checks; a test holds Parse against compose-go's loader.
package app

import (
	"strconv"
	"time"
)

// App is one compose project: the wanted containers of one folder.
type App struct {
	Name       string
	Containers []Container // sorted by service
}

// Container is one service of an app, as wanted. All fields are printable and comparable by value,
// so that a digest of it tells whether it changed.
type Container struct {
	App, Service string
	// Image is a whole reference: host, path and tag or digest.
	Image string
	// Entrypoint and Command are nil to take the container image's, empty to have none.
	Entrypoint, Command []string
	Environment         []string // KEY=VALUE, sorted
	WorkingDir, User    string
	Network             Network
	// Links are the networks it is on, at least one with NetworkBridge and none otherwise.
	Links []Link `json:",omitempty"`
	Ports []Port `json:",omitempty"` // published
	// ContainerName is one more name for it in its networks.
	ContainerName string   `json:",omitempty"`
	Hosts         []string `json:",omitempty"` // NAME=ADDRESS, for its /etc/hosts
	// DNS are the name servers that it asks instead of the device's for what is no name of the app.
	DNS        []string `json:",omitempty"`
	DNSSearch  []string `json:",omitempty"`
	Restart    Restart
	StopSignal string        // empty: the container image's
	StopGrace  time.Duration // between the stop signal and the kill
}

// ID is the container's name in containerd and in the log: APP.SERVICE.
func (c Container) ID() string { return c.App + "." + c.Service }

// Network says which links a container sees.
type Network string

// The networks that exist.
const (
	NetworkNone   Network = "none"   // its own, with only a loopback link
	NetworkHost   Network = "host"   // the device's
	NetworkBridge Network = "bridge" // its own, on networks of the app
)

// Policy says when a container that ended is started again.
type Policy string

// The policies of compose.
const (
	Never         Policy = "no"
	Always        Policy = "always"
	UnlessStopped Policy = "unless-stopped"
	OnFailure     Policy = "on-failure"
)

// Restart is a policy and, for OnFailure, how many times; 0 is without end.
type Restart struct {
	Policy Policy
	Limit  int
}

// String is the form that compose.yaml has.
func (r Restart) String() string {
	if r.Limit > 0 {
		return string(r.Policy) + ":" + strconv.Itoa(r.Limit)
	}
	return string(r.Policy)
}

const (
	defaultStopGrace = 10 * time.Second
	// MaxSize is how many bytes a compose file may have: what is longer was not written by a person.
	MaxSize = 256 << 10
	// maxID is containerd's bound on the name of a container.
	maxID = 76
)

// ValidName reports whether s may name an app or a service, as it becomes part of names in
// containerd and in the log: a-z and 0-9, with single - or _ between them.
func ValidName(s string) bool {
	separator := true // as if one came before: neither end may be one
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			separator = false
		case (c == '-' || c == '_') && !separator:
			separator = true
		default:
			return false
		}
	}
	return !separator && len(s) <= maxID
}
