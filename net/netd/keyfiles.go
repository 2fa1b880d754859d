package netd

import (
	"cmp"
	"context"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
	"resinos/net/assignment"
	"resinos/net/keydir"
	"resinos/net/link"
	"resinos/net/profile"
	"resinos/net/resolv"
	"resinos/net/routingrule"
)

// keyFiles is what the daemon knows of the owner's key files.
type keyFiles struct {
	dir      keydir.Directory
	entries  []assignment.Entry
	assigned map[int]assignment.Entry // by index of the link
	down, up map[string]bool          // by file: what a person asked for in this boot
	commands []string                 // the kernel's command line
	seed     string                   // differs in each boot
	mtus     map[int]int              // what links had before a profile changed it
	ruled    bool                     // rules may be there that are ours
}

func newKeyFiles(path string) keyFiles {
	commandLine, _ := os.ReadFile("/proc/cmdline")
	seed, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return keyFiles{
		dir: keydir.Directory{Path: path}, assigned: map[int]assignment.Entry{},
		down: map[string]bool{}, up: map[string]bool{},
		commands: strings.Fields(string(commandLine)), seed: string(seed), mtus: map[int]int{}, ruled: true,
	}
}

// load reads the key files, reports what is wrong with those that changed, and reports whether a profile changed.
func (d *daemon) load() bool {
	before := d.files.dir.Files
	changed, err := d.files.dir.Read()
	if err != nil {
		d.cfg.Log.Warn("key files not read", "error", err)
		return false
	}
	if !changed {
		return false
	}
	for _, f := range d.files.dir.Files {
		if slices.ContainsFunc(before, func(o keydir.File) bool { return reflect.DeepEqual(o, f) }) {
			continue
		}
		for _, w := range f.Warnings {
			d.cfg.Log.Warn("key of a key file not used", "warning", w.String())
		}
		if f.Error != "" {
			d.cfg.Log.Warn("key file not used", "file", f.Name, "error", f.Error)
		}
	}
	d.files.entries = d.files.dir.Entries()
	return true
}

// watchFiles tells the daemon of changes in the directory of key files until ctx ends.
func (d *daemon) watchFiles(ctx context.Context) {
	const mask = unix.IN_CLOSE_WRITE | unix.IN_MOVE | unix.IN_DELETE | unix.IN_ATTRIB
	w, err := dirwatch.Open(d.cfg.KeyFiles, mask, d.cfg.Log)
	if err != nil {
		d.cfg.Log.Warn("key files not watched", "error", err)
		return
	}
	defer w.Close() // it is read no more
	for {
		select {
		case d.reloads <- struct{}{}: // the first one too: a file may have changed before the watch began
		case <-ctx.Done():
			return
		}
		if err := w.Wait(ctx, 0); err != nil {
			return
		}
	}
}

// reload takes changed key files over. Only links whose profile changed are touched.
func (d *daemon) reload(at time.Duration) {
	if d.load() {
		d.survey(at)
		d.applyRules()
	}
}

// assign decides anew which profile each link has.
func (d *daemon) assign() {
	if len(d.files.entries) == 0 {
		clear(d.files.assigned)
		return
	}
	list, err := netlink.LinkList()
	if err != nil {
		d.cfg.Log.Warn("links not listed", "error", err)
		return
	}
	state := assignment.State{Held: map[int]string{}, Down: d.files.down, Up: d.files.up, CommandLine: d.files.commands}
	for _, l := range list {
		state.Links = append(state.Links, link.FromNetlink(d.cfg.SysRoot, l))
	}
	for index, e := range d.files.assigned {
		state.Held[index] = e.File
	}
	d.files.assigned = assignment.Assign(d.files.entries, state)
}

// profiled is what a link gets, from its key file or, if no key file is for it, as one without any.
type profiled struct {
	entry  *assignment.Entry // nil: without a key file
	static assignment.Static
	ours   bool
}

// profileOf returns what a link gets now.
func (d *daemon) profileOf(l link.Link) profiled {
	usual, ours := link.Choose(d.cfg.Profiles, l)
	metric := usual.MetricFor(l)
	if !ours {
		metric = link.Defaults()[0].MetricFor(l)
	}
	if e, there := d.files.assigned[l.Index]; there {
		static := assignment.For(e.Profile, l, metric, d.files.seed)
		d.joinController(e, &static)
		static.DHCP = static.DHCP && hasHardware(l)
		return profiled{&e, static, static.Waiting == ""}
	}
	for _, e := range d.files.entries {
		if l.Kind != link.Wired || assignment.Fits(e.Profile, l, d.files.commands) && !d.usedElsewhere(e) {
			return profiled{ours: ours && l.Kind != link.Wired && usual.Method == link.DHCP && hasHardware(l),
				static: assignment.Static{DHCP: true, Metric: metric}}
		}
	}
	return profiled{static: assignment.Static{DHCP: true, Metric: metric},
		ours: ours && usual.Method == link.DHCP && hasHardware(l)}
}

// usedElsewhere reports whether a profile is in force on some link.
func (d *daemon) usedElsewhere(e assignment.Entry) bool {
	for _, used := range d.files.assigned {
		if used.File == e.File {
			return true
		}
	}
	return false
}

func hasHardware(l link.Link) bool { return len(l.Hardware) == len("52:54:00:12:34:56") }

// joinController makes a port part of its bridge or bond, which the profile names by link, id or UUID.
func (d *daemon) joinController(e assignment.Entry, s *assignment.Static) {
	c := e.Profile.Connection
	if c.PortType == "" {
		return
	}
	name := c.Controller
	for _, other := range d.files.entries {
		if o := other.Profile.Connection; o.UUID == name || o.ID == name && o.Type == c.PortType {
			name = cmp.Or(o.InterfaceName, name)
		}
	}
	if l, err := net.InterfaceByName(name); err == nil {
		s.Wanted.Master = &l.Index
	}
}

// applyRules makes the routing rules those of all claimed links.
func (d *daemon) applyRules() {
	var wanted []routingrule.Rule
	for _, c := range d.claims {
		wanted = append(wanted, c.static.Rules...)
	}
	if len(wanted) == 0 && !d.files.ruled {
		return
	}
	done, err := routingrule.Apply(wanted)
	for _, step := range done {
		d.cfg.Log.Debug("link step", "step", step)
	}
	if err != nil {
		d.cfg.Log.Warn("routing rules not as wanted", "error", err)
	}
	d.files.ruled = len(wanted) > 0 || err != nil
}

// given is a source: what the key file itself gives.
type given struct{ *claim }

func (f given) want(_ time.Duration, w *link.Wanted) {
	s := f.static.Wanted
	w.Hardware, w.Master, w.IPv6 = s.Hardware, s.Master, s.IPv6
	if s.MTU != 0 {
		w.MTU = s.MTU
	}
	w.Addresses = append(w.Addresses, s.Addresses...)
	w.Routes = append(w.Routes, s.Routes...)
}

func (f given) names() (resolv.Source, bool) {
	s := resolv.Source{Link: f.link.Name, Metric: f.static.Metric, Servers: f.static.DNS, Search: f.static.Search}
	return s, len(s.Servers)+len(s.Search) > 0 && f.link.Carrier
}

func (f given) carrier(time.Duration, bool) { f.claim.changedNames() }
func (f given) renamed(time.Duration)       {}
func (f given) deadline() time.Duration     { return 0 }
func (f given) tick(time.Duration)          {}
func (f given) close()                      {}

// filtered drops from w what the key file refuses of a lease: routes, or only the default route.
func filtered(w *link.Wanted, ip *profile.IP) {
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
