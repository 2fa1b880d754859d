// Package spec defines what a service is: the decoded definition, as types. It parses nothing (package definition does)
// and never starts anything; package graph checks whether the services that it names exist. Read Spec first.
package spec

import (
	"math"
	"slices"
	"strconv"
	"time"

	"resinos/services/spec/precondition"
)

// Type says when a service counts as up.
type Type string

// The three types. Simple is up as soon as its program runs (or, with a Ready probe, once that
// succeeds), Notify when it sends READY=1, and Oneshot when it has ended with exit code 0.
const (
	Simple  Type = "simple"
	Notify  Type = "notify"
	Oneshot Type = "oneshot"
)

// Restart says what follows the end of a service nobody asked to stop.
type Restart string

// The restart policies. Always brings it back whatever the exit code, OnFailure unless the code
// was 0, Never leaves it ended (code 0) or failed (anything else), for the owner to see.
const (
	Always    Restart = "always"
	OnFailure Restart = "on-failure"
	Never     Restart = "never"
)

// Log says where standard output and standard error go.
type Log string

// Ring is the log ring through a named pipe; Console leaves the three standard descriptors on the
// console for the program to use as it likes (getty).
const (
	Ring    Log = "ring"
	Console Log = "console"
)

// KillMode says who is killed when a service ends.
type KillMode string

// Group kills everything left in the service's cgroup once its main process is dead. Process
// touches the main process only: its children outlive it (the shims of the container engine).
const (
	Group   KillMode = "group"
	Process KillMode = "process"
)

// Start says what a service that is asked for waits for, besides those it comes after.
type Start string

// AtBoot is at once. OnDemand is traffic on one of its Listen sockets or, with ListenStored, on a
// descriptor that it left, its Timer, or a change of one of its WatchPaths; after a clean end the
// service waits for the next of them, as does one that starts at boot and restarts on failure.
const (
	AtBoot   Start = "boot"
	OnDemand Start = "demand"
)

// Spec is the definition of one service: what its file says, with the defaults filled in. Each
// field names its key; docs/services.md lists all of them. As JSON it holds only
// what is not zero: PID 1 takes all of them along when it executes itself again.
type Spec struct {
	Name        string `json:",omitzero"` // the file's name without .toml
	Description string `json:",omitzero"` // one line for people
	Masked      bool   `json:",omitzero"` // masked: it exists and never starts

	Command          []string          `json:",omitzero"` // absolute program path and its arguments
	Environment      map[string]string `json:",omitzero"` // added to the manager's small default environment
	WorkingDirectory string            `json:",omitzero"` // absolute; "/" when not said
	// names or numbers; empty is root, and the user's own group
	User, Group string `json:",omitzero"`
	// names or numbers, beside the ones /etc/group gives the user
	SupplementaryGroups []string `json:",omitzero"`
	Log                 Log      `json:",omitzero"` // where its output goes

	Start     Start    `json:",omitzero"`
	Type      Type     `json:",omitzero"`
	Ready     Ready    `json:",omitzero"` // when a Simple service counts as up
	Needs     []string `json:",omitzero"` // must be up before it starts; it stops when one of them stops for good
	Wants     []string `json:",omitzero"` // started with it and before it, if they can be
	After     []string `json:",omitzero"` // only the order, and only among services that start anyway
	Conflicts []string `json:",omitzero"` // never runs beside it: whoever is asked for last stops the other

	Conditions []precondition.Condition `json:",omitzero"` // all must hold at each start, else it is skipped
	Variants   []string                 `json:",omitzero"` // image variants that carry it; empty is all

	Restart      Restart       `json:",omitzero"` // what follows its end
	RestartPause time.Duration `json:",omitzero"` // before the second restart in a row, twice that before the third, …
	RestartLimit time.Duration `json:",omitzero"` // … up to this
	GiveUp       GiveUp        `json:",omitzero"`

	StartTimeout time.Duration `json:",omitzero"` // how long it may take to be up; 0 is for ever
	StopTimeout  time.Duration `json:",omitzero"` // from the stop signal to SIGKILL
	StopSignal   string        `json:",omitzero"` // a signal name without SIG: "TERM"
	// the same: "HUP"; empty when it is reloaded by command or not at all
	ReloadSignal  string   `json:",omitzero"`
	ReloadCommand []string `json:",omitzero"` // run beside the service; its exit code is the answer
	KillMode      KillMode `json:",omitzero"` // who is killed when it ends
	// watchdog-every: it must send WATCHDOG=1 at least this often once it is up; 0 is no watchdog
	WatchdogEvery time.Duration `json:",omitzero"`
	Health        Health        `json:",omitzero"`

	Listen     Listen   `json:",omitzero"`
	Timer      Timer    `json:",omitzero"`
	WatchPaths []string `json:",omitzero"` // absolute; a change of one of them starts the service
	FDStore    int      `json:",omitzero"` // descriptors it may leave with us over a restart (FDSTORE=1)
	// traffic on a descriptor that it left starts it too; one that hangs up is closed
	ListenStored bool `json:",omitzero"`

	OOMScore int    `json:",omitzero"` // oom_score_adj of its processes
	Limits   Limits `json:",omitzero"` // of its cgroup
	// its main process lives in the leaf "main"; the rest of its cgroup is its own
	CgroupDelegate bool        `json:",omitzero"`
	Confinement    Confinement `json:",omitzero"`

	Files []string `json:",omitzero"` // that made it, the lowest layer first
}

// Ready is how a Simple service is found to be up; at most one field is set.
type Ready struct {
	Port    string   // ready-port: "tcp:127.0.0.1:80" or "unix:/run/x.sock" that takes a connection
	Command []string // ready-command: exits 0; asked again and again until the start timeout
}

// Set reports whether there is a probe.
func (r Ready) Set() bool { return r.Port != "" || len(r.Command) > 0 }

// GiveUp is when a service that keeps dying is left failed: after Lives lives within Within. The
// zero value is never.
type GiveUp struct {
	Lives  int           // give-up-after
	Within time.Duration // give-up-within
}

// Health is a command that is run again and again while the service is up. When it has failed
// Retries times in a row the service is killed and goes through its restart policy.
type Health struct {
	Command []string      // health-command; empty is no check
	Every   time.Duration // health-every
	Timeout time.Duration // health-timeout: a run that takes longer has failed
	Retries int           // health-retries
}

// Listen is the sockets that PID 1 opens for a service before it runs and keeps while it does
// not. They reach it by the LISTEN_FDS protocol (sd_listen_fds(3)): descriptors 3 and on.
type Listen struct {
	Sockets     []Socket // listen
	Mode        uint32   // listen-mode: of unix sockets, "0600"
	User, Group string   // listen-user, listen-group: owner of unix sockets
	Each        bool     // listen-each: one process a connection, which is its descriptor 3
	Max         int      // listen-max: connections at once with Each; more wait in the backlog
}

// Socket is one listening socket.
type Socket struct {
	Network string // tcp, udp, unix (stream), unixgram, unixpacket, netlink
	Address string // HOST:PORT with an empty HOST for all, an absolute path, or a netlink family
	Name    string // LISTEN_FDNAMES; the service's name when not said
}

// String writes the socket as a service file does.
func (s Socket) String() string {
	if s.Name != "" {
		return s.Name + "=" + s.Network + ":" + s.Address
	}
	return s.Network + ":" + s.Address
}

// Timer starts a service by the monotonic clock: boot time never jumps, and a device without a
// battery does not know the hour. The zero value is no timer.
type Timer struct {
	AfterBoot time.Duration // timer-after-boot: the first start, counted from the kernel's
	Every     time.Duration // timer-every: from one start to the next; 0 is once
	Spread    time.Duration // timer-random-delay: each is later by up to this, so that a fleet spreads out
}

// Set reports whether there is a timer.
func (t Timer) Set() bool { return t.AfterBoot > 0 || t.Every > 0 }

// Limits is what the cgroup of a service enforces (cgroup v2); a zero field is no limit. Sizes
// are bytes.
type Limits struct {
	MemoryMin, MemoryHigh, MemoryMax int64 // memory-min, memory-high, memory-max
	Pids                             int   // pids-max
	CPUWeight                        int   // cpu-weight: 1 to 10000, 100 is the standard
	BootCPUWeight                    int   // boot-cpu-weight: in place of cpu-weight while the device boots
}

// While returns the limits that hold while the device boots, or from then on.
func (l Limits) While(booting bool) Limits {
	if booting && l.BootCPUWeight > 0 {
		l.CPUWeight = l.BootCPUWeight
	}
	return l
}

// Confinement is what the processes of a service see of the system and may do to it. The zero value
// is everything.
type Confinement struct {
	Packed          []string // packed: the packed programs of the root that only this service sees (mounts/packed)
	PrivateTmp      bool     // private-tmp: its own empty /tmp and /var/tmp
	ReadOnlyPaths   []string // read-only-paths: absolute; a "-" in front lets a missing one pass
	HiddenPaths     []string // hidden-paths: the same; seen empty and without rights
	MountNamespace  bool     // mount-namespace: its own even without the above
	Propagation     Propagation
	Capabilities    []string // capabilities: all it may ever have, CAP_NET_ADMIN; only when Bounded
	Bounded         bool     // capabilities was said, be it empty
	NoNewPrivileges bool     // no-new-privileges
	Seccomp         string   // seccomp: the name of a profile in services/confine
	Nice            int      // nice: -20 to 19
	Rlimits         map[string]Rlimit
}

// Propagation says how mounts travel between the host and a service's mount namespace.
type Propagation string

// Slave lets the host's mounts appear in the service and none of its own escape; Private cuts
// both ways; Shared lets both through.
const (
	Slave   Propagation = "slave"
	Private Propagation = "private"
	Shared  Propagation = "shared"
)

// Rlimit is a soft and a hard limit of setrlimit(2). Infinity is none.
type Rlimit struct{ Soft, Hard uint64 }

// Infinity is RLIM_INFINITY.
const Infinity = ^uint64(0)

// OwnMounts reports whether the service needs a mount namespace of its own.
func (s Confinement) OwnMounts() bool {
	return s.MountNamespace || len(s.Packed) > 0 || s.PrivateTmp || len(s.ReadOnlyPaths) > 0 || len(s.HiddenPaths) > 0
}

// The defaults of keys that a file leaves out.
const (
	DefaultStopTimeout   = 10 * time.Second
	DefaultStartTimeout  = 90 * time.Second // for what has to say that it is up; the others wait for ever
	DefaultRestartPause  = 100 * time.Millisecond
	DefaultRestartLimit  = 30 * time.Second
	DefaultHealthEvery   = 30 * time.Second
	DefaultHealthTimeout = 10 * time.Second
	DefaultHealthRetries = 3
	DefaultListenMode    = 0o600
	DefaultListenMax     = 64
)

// InVariant reports whether an image of this variant carries the service.
func (s Spec) InVariant(variant string) bool {
	return len(s.Variants) == 0 || slices.Contains(s.Variants, variant)
}

// Demand reports whether the service has something that can start it on demand.
func (s Spec) Demand() bool {
	return len(s.Listen.Sockets) > 0 || s.ListenStored || s.Timer.Set() || len(s.WatchPaths) > 0
}

// String writes the limit as a service file does, without quotes.
func (r Rlimit) String() string {
	one := func(n uint64) string {
		if n > math.MaxInt64 {
			return "infinity"
		}
		return strconv.FormatUint(n, 10)
	}
	if r.Soft == r.Hard {
		return one(r.Soft)
	}
	return one(r.Soft) + ":" + one(r.Hard)
}

// Stream reports whether the socket takes connections.
func (s Socket) Stream() bool { return s.Network == "tcp" || s.Network == "unix" }
