package netd

import (
	"context"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
	"resinos/net/assignment"
	"resinos/net/link"
	"resinos/net/resolv"
	"resinos/net/routingrule"
)

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
		if err := d.within(ctx, d.reload); err != nil { // at the start too: a file may have changed before the watch
			return
		}
		if err := w.Wait(ctx, 0); err != nil {
			return
		}
	}
}

// reload takes changed key files over. Only links whose profile changed are touched.
func (d *daemon) reload(at time.Duration) {
	if d.files.Load() {
		d.ensureLinks()
		d.survey(at)
		d.applyRules()
	}
}

// applyRules makes the routing rules those of all claimed links.
func (d *daemon) applyRules() {
	var wanted []routingrule.Rule
	for _, c := range d.claims {
		wanted = append(wanted, c.static.Rules...)
	}
	if len(wanted) == 0 && !d.ruled {
		return
	}
	done, err := routingrule.Apply(wanted)
	for _, step := range done {
		d.cfg.Log.Debug("link step", "step", step)
	}
	if err != nil {
		d.cfg.Log.Warn("routing rules not as wanted", "error", err)
	}
	d.ruled = len(wanted) > 0 || err != nil
}

// ensureLinks creates the links that profiles ask for, removes those that none asks for any more, and sets the options
// and peers of all of them. While the key files cannot be read, the links of an earlier netd stay.
func (d *daemon) ensureLinks() {
	if !d.files.Known {
		return
	}
	wanted := d.files.Wanted()
	d.own.Ensure(wanted, d.files.Assigned)
	d.tunnels.Want(assignment.Tunnels(wanted))
}

// assign decides again which profile each link has.
func (d *daemon) assign() {
	d.vpns.Drive()
	if len(d.files.Entries) == 0 {
		clear(d.files.Assigned)
		clear(d.files.Radios)
		d.driveRadios()
		d.ensureLinks()
		return
	}
	defer d.ensureLinks() // options of ports, and links whose parent has come
	list, err := netlink.LinkList()
	if err != nil {
		d.cfg.Log.Warn("links not listed", "error", err)
		return
	}
	var links []link.Link
	for _, l := range list {
		links = append(links, link.FromNetlink(d.cfg.SysRoot, l))
	}
	d.files.Assign(links)
	d.driveRadios()
}

// given is a source: what the key file itself gives.
type given struct{ *claim }

func (f given) Want(_ time.Duration, w *link.Wanted) {
	s := f.static.Wanted
	w.Hardware, w.Master, w.IPv6 = s.Hardware, s.Master, s.IPv6
	if s.MTU != 0 {
		w.MTU = s.MTU
	}
	w.Addresses = append(w.Addresses, s.Addresses...)
	w.Routes = append(w.Routes, s.Routes...)
}

func (f given) Names() (resolv.Source, bool) {
	s := resolv.Source{Link: f.link.Name, Metric: f.static.Metric, Servers: f.static.DNS, Search: f.static.Search,
		Options: f.static.Options}
	return s, len(s.Servers)+len(s.Search)+len(s.Options) > 0 && f.link.Carrier
}

func (f given) Carrier(time.Duration, bool) { f.claim.daemon.writeResolv() }
func (f given) Renamed(time.Duration)       {}
func (f given) Deadline() time.Duration     { return 0 }
func (f given) Tick(time.Duration)          {}
func (f given) Close()                      {}
