package partition

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/fsck"
	"resinos/mounts/purge"
	"resinos/mounts/quota"
)

// asideDir is where a state that could not be repaired is kept.
const asideDir = "/mnt/data/set-aside"

// BootPatience is what the repair of the boot partition may take: less than any timeout of the watchdog, which on trial
// runs by then.
const BootPatience = 40 * time.Second

// patience is what the repair of a file system may take.
var patience = map[string]time.Duration{disk.Boot: BootPatience, disk.State: 5 * time.Minute, disk.Data: time.Hour}

// attempt is what is known of a partition that is being attached.
type attempt struct {
	on      Disk
	place   place
	entry   attach.Entry
	finding fsck.Finding // what is wrong with its file system
	fault   error        // what a person should know, attached or not
}

// way is one of the ways to attach a place. They are tried in their order; do reports whether no other is needed.
type way struct {
	does string
	do   func(*Attacher, *attempt) (over bool)
}

// ways are those of a place. The last one, a tmpfs in its place, is there so that everything above finds its directory.
func ways(on Disk, label string) (*attempt, []way) {
	p := places(label)
	standIn := p.replacement().String()
	part, found := disk.OnDisk(on.Partitions, on.Name, label)
	if !found {
		fault := fmt.Errorf("attach %s: not on disk %q", label, on.Name)
		return &attempt{on: on, place: p,
				fault: fault}, []way{{fmt.Sprintf("%s is not on disk %q: %s", label, on.Name, standIn),
				(*Attacher).standInFor}}
	}
	a := &attempt{on: on, place: p, entry: p.at(part)}
	var all []way
	if wish, found := purge.Find(a.entry.Name); found && wish.Request != "" {
		all = append(all, way{"if " + wish.Request + " asks for it: write an empty file system first",
			(*Attacher).attachAnew})
	}
	first := a.entry.String()
	if a.entry.Type == "ext4" {
		first += "; with " + quota.Option + " if it keeps quotas"
	}
	all = append(all, way{first, (*Attacher).attachSound}, way{"if it is damaged: repair it first",
		(*Attacher).attachRepaired})
	if label == disk.State {
		all = append(all, way{"beyond repair: copy it to " + asideDir + " and begin with an empty one",
			(*Attacher).attachEmpty})
	}
	return a, append(all, way{"if that fails: " + standIn, (*Attacher).standInFor})
}

// AttachPlan prints the ways to attach a partition in the order in which Attach tries them.
func AttachPlan(on Disk, label string) []string {
	var lines []string
	_, all := ways(on, label)
	for _, w := range all {
		lines = append(lines, w.does)
	}
	return lines
}

// Attach attaches a partition, or a tmpfs in its place. It does nothing where something is attached already.
func (s *Attacher) Attach(on Disk, label string) error {
	a, all := ways(on, label)
	if have, err := attach.ReadMounts(); err == nil {
		if _, there := attach.At(have, a.entry.Target); there {
			return nil
		}
	}
	for _, w := range all {
		if w.do(s, a) {
			break
		}
	}
	return a.fault
}

// standInFor is the last way.
func (s *Attacher) standInFor(a *attempt) (over bool) {
	if a.place.label == disk.Data && a.entry.Source != "" {
		a.fault = fmt.Errorf("%w; it is left as it is. "+
			"To give up all that is on it: osctl purge data, then osctl reboot", a.fault)
	}
	a.fault = s.standIn(a.place, a.fault)
	return true
}

// standIn attaches the tmpfs because of a fault, and returns both.
func (s *Attacher) standIn(p place, fault error) error {
	if err := attach.Ensure(p.replacement()); err != nil {
		return errors.Join(fault, err)
	}
	return fmt.Errorf("%w; a tmpfs stands in for it until the next boot", fault)
}

// attachAnew gives a partition that could not be attached an empty file system, if its owner has asked for that.
func (s *Attacher) attachAnew(a *attempt) (over bool) {
	wish, found := purge.Find(a.entry.Name)
	if !found || !purge.Asked(wish) {
		return false
	}
	over, a.fault = s.makeAnew(a.entry, wish)
	return over
}

// attachSound attaches what is not damaged, or does not show it.
func (s *Attacher) attachSound(a *attempt) (over bool) {
	if a.fault != nil {
		return false
	}
	found, err := look(a.entry)
	if err != nil {
		a.fault = fmt.Errorf("attach %s: %w", a.place.label, err)
		return false
	}
	if found.Why == "" {
		if a.fault = s.mount(a.entry); !corrupt(a.fault) {
			return a.fault == nil
		}
		found.Why = a.fault.Error()
	}
	a.finding = found
	return false
}

// attachRepaired attaches what attachSound has found damaged, after a repair.
func (s *Attacher) attachRepaired(a *attempt) (over bool) {
	found, label := a.finding, a.place.label
	if found.Why == "" {
		return false
	}
	found.Gently = label == disk.State // renewState keeps all that is there
	s.Log.Warn("file system needs a repair", "partition", label, "reason", found.Why)
	ctx, cancel := context.WithTimeout(context.Background(), patience[label])
	defer cancel()
	said, err := fsck.Repair(ctx, RunTool, found, a.entry.Type, a.entry.Source)
	if err == nil {
		s.Log.Warn("file system repaired", "partition", label, "reason", said)
		s.repaired = append(s.repaired, label)
		if err = s.mount(a.entry); err == nil {
			a.fault = nil
			return true
		}
	}
	a.fault = fmt.Errorf("attach %s: %s: %w", label, found.Why, err)
	return false
}

// attachEmpty attaches an empty file system in the place of one that is beyond repair, whose content is kept. What is
// attached then comes with a fault: something of it was lost, and a person should know.
func (s *Attacher) attachEmpty(a *attempt) (over bool) {
	if !errors.Is(a.fault, fsck.ErrBeyond) {
		return false
	}
	over, a.fault = s.renewState(a.on, a.entry, a.fault)
	return over
}

// makeAnew writes an empty file system over one that could not be attached, because its owner has asked for that.
func (s *Attacher) makeAnew(entry attach.Entry, wish purge.Place) (attached bool, err error) {
	if err := fsck.Rebuild(entry.Source, fsck.Template(wish.Name)); err != nil {
		return false, fmt.Errorf("purge %s: %w", wish.Name, err)
	}
	s.Log.Warn("partition purged", "partition", "resin-"+wish.Name, "reason",
		"its owner asked for an empty file system: "+wish.Request)
	if err := s.mount(entry); err != nil {
		return false, fmt.Errorf("attach the empty %s: %w", wish.Name, err)
	}
	return true, purge.Answer(wish)
}

func look(entry attach.Entry) (fsck.Finding, error) {
	f, err := os.Open(entry.Source)
	if err != nil {
		return fsck.Finding{}, err
	}
	defer f.Close() // only read
	return fsck.Look(f, entry.Type)
}

// corrupt reports whether a mount failed because of what lies on the disk, and not because it cannot be read or the
// kernel lacks something.
func corrupt(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EUCLEAN) || errors.Is(err, unix.EBADMSG)
}

// renewState puts a state that is beyond repair aside on the data partition, and an empty one in its place. Without a
// data partition that can take it the old one is left as it is; of one that cannot be read whole, or has no room there,
// what could be had is kept.
func (s *Attacher) renewState(on Disk, entry attach.Entry, fault error) (attached bool, err error) {
	if err := s.Attach(on, disk.Data); err != nil {
		return false, errors.Join(fault, fmt.Errorf("it cannot be set aside: %w", err))
	}
	file, aside := fsck.SetAside(entry.Source, asideDir, disk.State)
	if file == "" {
		return false, errors.Join(fault, aside)
	}
	if err := fsck.Rebuild(entry.Source, fsck.Template("state")); err != nil {
		return false, errors.Join(fault, aside, err)
	}
	if err := attach.Apply(entry); err != nil {
		return false, errors.Join(fault, aside, err)
	}
	if aside != nil {
		return true, fmt.Errorf("%w; it is empty now; of its old content not all is kept: %w", fault, aside)
	}
	return true, fmt.Errorf("%w; it is empty now, its old content is in %s", fault, file)
}
