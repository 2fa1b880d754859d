// Package app defines an app: the typed form of a compose file, as it passes from the program that loads compose files
// to the manager, which runs it. It knows neither compose files nor containerd. Read App first.
package app

import (
	"strconv"
	"strings"
	"time"
)

// App is one compose project: the wanted containers of one directory.
type App struct {
	Name       string
	Containers []Container // sorted by service
}

// Container is one container of a service of an app, as wanted. All fields are printable and comparable by value,
// so that a digest of it tells whether it changed. A zero value says that the compose file says nothing.
type Container struct {
	App, Service string
	// Number tells the containers of a service with a scale apart: 2 and on, and 0 for the first.
	Number int `json:",omitempty"`
	// Hold is set of a container in which a person runs one command (osctl run): the program of the device that is its
	// first process. It has a number among its kind, no app lists it, and it ends when nothing else runs in it.
	Hold string `json:",omitempty"`
	// Image is a whole reference: host, path and tag or digest.
	Image      string
	Platform   string `json:",omitempty"` // os/architecture[/variant]; empty: the device's
	PullPolicy string `json:",omitempty"` // PullAlways, PullNever, or PullEvery and a duration; empty: if it lacks
	// Entrypoint and Command are nil to take the container image's, empty to have none.
	Entrypoint, Command []string
	Environment         []string // KEY=VALUE, sorted
	WorkingDir, User    string
	Groups              []string `json:",omitempty"` // further groups, names or numbers
	Hostname            string   `json:",omitempty"` // empty: the service
	Domainname          string   `json:",omitempty"`
	Network             Network
	// Links are the networks it is on, at least one with NetworkBridge and none otherwise.
	Links []Link `json:",omitempty"`
	// Joins are services of the app, by namespace (network, pid, ipc, as the OCI specification has them): it uses that
	// of the first container of the service instead of its own.
	Joins map[string]string `json:",omitempty"`
	// NamesOf is the service whose network it uses, if that has names and name servers; empty: it sees none.
	NamesOf string `json:",omitempty"`
	Ports   []Port `json:",omitempty"` // published
	// ContainerName is one more name for it in its networks.
	ContainerName string   `json:",omitempty"`
	Hosts         []string `json:",omitempty"` // NAME=ADDRESS, for its /etc/hosts
	// DNS are the name servers that it asks instead of the device's for what is no name of the app.
	DNS       []string `json:",omitempty"`
	DNSSearch []string `json:",omitempty"`
	DNSOpts   []string `json:",omitempty"` // of resolv.conf(5): timeout:3

	Mounts      []Mount  `json:",omitempty"`
	Files       []File   `json:",omitempty"` // configs and secrets
	Devices     []Device `json:",omitempty"`
	DeviceRules []string `json:",omitempty"` // as in the cgroup of devices: c 188:* rw

	CapAdd      []string  `json:",omitempty"` // NET_ADMIN; ALL
	CapDrop     []string  `json:",omitempty"`
	Privileged  bool      `json:",omitempty"`
	Security    []string  `json:",omitempty"` // no-new-privileges, seccomp=unconfined
	ReadOnly    bool      `json:",omitempty"` // its root
	Sysctls     []string  `json:",omitempty"` // KEY=VALUE, sorted
	Ulimits     []Ulimit  `json:",omitempty"`
	Resources   Resources `json:",omitzero"`
	OOMScoreAdj int       `json:",omitempty"`
	Init        bool      `json:",omitempty"` // a first process that reaps is put before its program
	IPC         string    `json:",omitempty"` // host, none, shareable, private
	PID         string    `json:",omitempty"` // host
	UTS         string    `json:",omitempty"` // host
	OwnUsers    bool      `json:",omitempty"` // a user namespace of its own: its root is nobody on the device
	TTY         bool      `json:",omitempty"`
	StdinOpen   bool      `json:",omitempty"`
	Labels      []string  `json:",omitempty"` // KEY=VALUE, sorted

	Restart     Restart
	StopSignal  string        // empty: the container image's
	StopGrace   time.Duration // between the stop signal and the kill
	Healthcheck *Healthcheck  `json:",omitempty"` // nil: the container image's
	DependsOn   []Dependency  `json:",omitempty"` // sorted by service
}

// Joined is the container whose namespace c uses, or empty.
func (c Container) Joined(namespace string) string {
	if service := c.Joins[namespace]; service != "" {
		return c.App + "." + service
	}
	return ""
}

// ID is the container's name in containerd and in the log: APP.SERVICE, APP.SERVICE.NUMBER, or APP.SERVICE-run-NUMBER.
func (c Container) ID() string {
	if c.Hold != "" {
		return c.App + "." + c.Service + "-run-" + strconv.Itoa(c.Number)
	}
	if c.Number > 1 {
		return c.App + "." + c.Service + "." + strconv.Itoa(c.Number)
	}
	return c.App + "." + c.Service
}

// Label is the value of a label, or empty.
func (c Container) Label(name string) string {
	for _, l := range c.Labels {
		if key, value, _ := strings.Cut(l, "="); key == name {
			return value
		}
	}
	return ""
}

// Healthcheck says how it is found out whether the container does its work. A zero value is the container image's, or
// docker's default if that has none.
type Healthcheck struct {
	// Test is a command after its form: CMD and arguments, CMD-SHELL and one line, or NONE, which turns the container
	// image's check off. Empty: the container image's.
	Test          []string      `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// Condition is what a dependency waits for.
type Condition string

// The conditions of compose.
const (
	ServiceStarted   Condition = "service_started"
	ServiceHealthy   Condition = "service_healthy"
	ServiceCompleted Condition = "service_completed_successfully"
)

// Dependency is a service that has to be as Condition says before the container starts.
type Dependency struct {
	Service   string
	Condition Condition
	Restart   bool `json:",omitempty"` // the container is restarted when the other one is
	Required  bool `json:",omitempty"` // without the other one the container does not start
}

// Network says which links a container sees.
type Network string

// The networks that exist.
const (
	NetworkNone   Network = "none"   // its own, with only a loopback link, or that of the container in Joins
	NetworkHost   Network = "host"   // the device's
	NetworkBridge Network = "bridge" // its own, on networks of the app
)

// Policy says when a container that ended is started again.
type Policy string

// The policies of compose, of restarts and of pulls.
const (
	Never         Policy = "no"
	Always        Policy = "always"
	UnlessStopped Policy = "unless-stopped"
	OnFailure     Policy = "on-failure"

	PullAlways = "always" // when the device comes up, and at osctl up
	PullNever  = "never"  // not even if it lacks
	PullEvery  = "every_" // and how old it may be, as time.ParseDuration reads it
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

// maxID is containerd's bound on the name of a container.
const maxID = 76

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
