// Package inforce decides which key files are in force: it reads their directory, decides with assignment which link
// has which profile, and remembers what a person brought up or took down.
//
// It changes no link: netd does. Read first: Set.
package inforce

import (
	"log/slog"
	"maps"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/net/assignment"
	"resinos/net/keydir"
	"resinos/net/link"
	"resinos/net/profile"
)

// Set is the key files of a device and what became of them. It belongs to one goroutine.
type Set struct {
	Dir      keydir.Directory
	Entries  []assignment.Entry
	Known    bool                        // the directory has been read: without that, nobody knows what is wanted
	Assigned map[int]assignment.Entry    // by index of the link
	Radios   map[int][]assignment.Entry  // by index of the link: what each radio may join
	Names    map[int]string              // of the links, by index
	Joined   map[string]string           // by name of the radio: the file of the network that it is in, or was last
	Tunnels  map[string]assignment.Entry // by name of the link: what a tunnel of openvpn gives it
	Bearers  map[string]string           // by name of the link: the file that a modem has connected it for
	Leased   map[string]bool             // by name of such a link: its address comes from a DHCP server
	Cellular bool                        // the image has the program for modems
	Down, Up map[string]bool             // by file: what a person asked for since netd started

	Identity string // of the device, which stays

	usual    []link.Profile // of links without a key file
	commands []string       // the kernel's command line
	seed     string         // differs in each boot
	log      *slog.Logger
}

// New returns the set of a directory that has not been read. usual are the profiles of links without a key file.
func New(path string, usual []link.Profile, log *slog.Logger) *Set {
	commandLine, _ := os.ReadFile("/proc/cmdline") // without it, no profile matches it
	seed, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return &Set{
		Dir: keydir.Directory{Path: path}, Assigned: map[int]assignment.Entry{}, Down: map[string]bool{},
		Up: map[string]bool{}, Joined: map[string]string{}, usual: usual,
		commands: strings.Fields(string(commandLine)), seed: string(seed),
		log: log,
	}
}

// Load reads the key files, reports what is wrong with those that changed, and reports whether a profile changed.
func (s *Set) Load() bool {
	before := s.Dir.Files
	changed, err := s.Dir.Read()
	if err != nil {
		s.log.Warn("key files not read", "error", err)
		return false
	}
	s.Known = true
	if !changed {
		return false
	}
	for _, f := range s.Dir.Files {
		if slices.ContainsFunc(before, func(o keydir.File) bool { return reflect.DeepEqual(o, f) }) {
			continue
		}
		for _, w := range f.Warnings {
			s.log.Warn("key of a key file not used", "warning", w.String())
		}
		if f.Error != "" {
			s.log.Warn("key file not used", "file", f.Name, "error", f.Error)
		}
	}
	s.Entries = s.Dir.Entries()
	return true
}

// Assign decides again which profile each link has.
func (s *Set) Assign(links []link.Link) {
	state := assignment.State{Links: links, Held: map[int]string{}, Down: s.Down, Up: s.up(), CommandLine: s.commands,
		Joined: s.Joined, Tunnels: s.Tunnels, Bearers: s.Bearers}
	for index, e := range s.Assigned {
		state.Held[index] = e.File
	}
	s.Assigned = assignment.Assign(s.Entries, state)
	s.Radios = assignment.Radios(s.Entries, state)
	s.Names = map[int]string{}
	for _, l := range links {
		s.Names[l.Index] = l.Name
	}
}

// Given is what a link gets, from its key file or, if no key file is for it, as one without any.
type Given struct {
	Entry  *assignment.Entry // nil: without a key file
	Static assignment.Static
	Ours   bool // netd configures the link
}

// Given returns what a link gets now.
func (s *Set) Given(l link.Link) Given {
	usual, ours := link.Choose(s.usual, l)
	metric := usual.MetricFor(l)
	if !ours {
		metric = link.Defaults()[0].MetricFor(l)
	}
	if e, there := s.Assigned[l.Index]; there {
		static := assignment.For(e.Profile, l, metric, s.seed)
		static.Stable(e.Profile, l, s.Identity)
		s.joinController(e, &static)
		static.DHCP = (static.DHCP || s.Leased[l.Name]) && hasHardware(l)
		return Given{&e, static, static.Waiting == ""}
	}
	for _, e := range s.Entries {
		if l.Kind != link.Wired || assignment.Fits(e.Profile, l, s.commands) && !s.InForce(e) {
			return Given{Ours: ours && l.Kind != link.Wired && usual.Method == link.DHCP && hasHardware(l),
				Static: assignment.Static{DHCP: true, Routers: true, Metric: metric}}
		}
	}
	return Given{Static: assignment.Static{DHCP: true, Routers: true, Metric: metric},
		Ours: ours && usual.Method == link.DHCP && hasHardware(l)}
}

// InForce reports whether a profile is in force on some link.
func (s *Set) InForce(e assignment.Entry) bool {
	for _, used := range s.Assigned {
		if used.File == e.File {
			return true
		}
	}
	return false
}

func hasHardware(l link.Link) bool { return len(l.Hardware) == len("52:54:00:12:34:56") }

// joinController makes a port part of its bridge or bond, which the profile names by link, id or UUID.
func (s *Set) joinController(e assignment.Entry, static *assignment.Static) {
	c := e.Profile.Connection
	if c.PortType == "" {
		return
	}
	if controller, there := s.controller(c); there {
		for index, used := range s.Assigned { // a link of somebody else with the name of ours has no profile
			if used.File == controller.File {
				static.Wanted.Master = &index
			}
		}
		return
	}
	if l, err := net.InterfaceByName(c.Controller); err == nil {
		static.Wanted.Master = &l.Index
	}
}

// controller finds the profile of the bridge or bond of a port, which the port names by link, id or UUID.
func (s *Set) controller(port profile.Connection) (assignment.Entry, bool) {
	for _, e := range s.Entries {
		c := e.Profile.Connection
		byName := c.ID == port.Controller || e.Profile.LinkName() == port.Controller
		if port.Controller != "" && (c.UUID == port.Controller || byName && c.Type == port.PortType) {
			return e, true
		}
	}
	return assignment.Entry{}, false
}

// up returns, by file, the profiles that are brought up although they do not come up by themselves: by a person, with
// the bridge or bond of which they are a port (autoconnect-ports), or with the profile that names them in secondaries.
func (s *Set) up() map[string]bool {
	up := maps.Clone(s.Up)
	for _, e := range s.Entries {
		c := e.Profile.Connection
		controller, port := s.controller(c)
		with := port && controller.Profile.Connection.AutoconnectPorts == 1 && s.wants(controller)
		for _, first := range s.Entries {
			names := slices.Contains(first.Profile.Connection.Secondaries, c.UUID)
			with = with || c.UUID != "" && names && s.wants(first)
		}
		if with && !s.Down[e.File] {
			up[e.File] = true
		}
	}
	return up
}

// wants reports whether a profile is to be in force, by itself or because a person has brought it up.
func (s *Set) wants(e assignment.Entry) bool {
	return !s.Down[e.File] && (e.Profile.Connection.Autoconnect || s.Up[e.File])
}

// Filter drops from w what the key file refuses of a lease: routes, or only the default route.
func Filter(w *link.Wanted, ip *profile.IP) {
	if ip == nil {
		return
	}
	table := int(ip.Table)
	if table == unix.RT_TABLE_MAIN {
		table = 0
	}
	w.Routes = slices.DeleteFunc(w.Routes, func(r link.Route) bool {
		usual := r.Destination.Bits() == 0
		return usual && ip.NeverDefault || r.Gateway.IsValid() && ip.IgnoreRoutes
	})
	for i := range w.Routes {
		w.Routes[i].Table = table
	}
}

// Named finds a profile by its file, id or UUID.
func (s *Set) Named(name string) (assignment.Entry, bool) {
	for _, e := range s.Entries {
		c := e.Profile.Connection
		if name == e.File || name == c.ID || name == c.UUID || name == strings.TrimSuffix(e.File, ".nmconnection") {
			return e, true
		}
	}
	return assignment.Entry{}, false
}

// Change brings a profile up or takes it down.
func (s *Set) Change(e assignment.Entry, up bool) {
	delete(s.Down, e.File)
	delete(s.Up, e.File)
	if up {
		s.Up[e.File] = true
	} else {
		s.Down[e.File] = true
	}
}

// Wanted returns the profiles whose links are to be there.
func (s *Set) Wanted() []assignment.Entry {
	up := s.up()
	return slices.DeleteFunc(slices.Clone(s.Entries), func(e assignment.Entry) bool {
		return !s.wants(e) && !up[e.File]
	})
}

// radioOf returns the name of the radio that may join the network of a profile but is not in it; empty: none.
func (s *Set) radioOf(e assignment.Entry) string {
	for index, entries := range s.Radios {
		for _, one := range entries {
			if one.File == e.File && s.Joined[s.Names[index]] != e.File {
				return s.Names[index]
			}
		}
	}
	return ""
}

// State says in words what became of a profile.
func (s *Set) State(e assignment.Entry, links []string) string {
	c := e.Profile.Connection
	static := assignment.For(e.Profile, link.Link{}, 0, "")
	switch {
	case c.Type == profile.TypeGSM && !s.Cellular:
		return "waits: this image has no program for modems"
	case static.Waiting != "":
		return "waits: " + static.Waiting
	case c.Type == profile.TypeWiFi && s.radioOf(e) != "":
		return "wanted on " + s.radioOf(e)
	case len(links) > 0:
		return "in force on " + strings.Join(links, ", ")
	case s.Down[e.File]:
		return "taken down"
	case !c.Autoconnect:
		return "not by itself: autoconnect=false"
	}
	if c.Type == profile.TypeGSM {
		return "no modem is connected for it"
	}
	return "no link is there for it"
}

// Modems returns the profiles that modems are wanted for, the best one first.
func (s *Set) Modems() []assignment.Entry {
	return assignment.Modems(s.Entries, assignment.State{Down: s.Down, Up: s.up()})
}
