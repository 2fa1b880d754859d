package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/fsck"
	"resinos/mounts/purge"
	"resinos/mounts/quota"
	"resinos/services/proc"
)

// asideDir is where a state that could not be repaired is kept.
const asideDir = "/mnt/data/set-aside"

// patience is what the repair of a file system may take. The watchdog runs when the boot partition's turn comes.
var patience = map[string]time.Duration{disk.Boot: bootTimeout * 2 / 3, disk.State: 5 * time.Minute, disk.Data: time.Hour}

// attempt is what is known of a partition that is being attached.
type attempt struct {
	place   place
	entry   attach.Entry
	finding fsck.Finding // what is wrong with its file system
	fault   error        // what a person should know, attached or not
}

// way is one of the ways to attach a place. They are tried in their order; do reports whether no other is needed.
type way struct {
	does string
	do   func(*system, *attempt) (over bool)
}

// ways are those of a place. The last one, a tmpfs in its place, is there so that everything above finds its folder.
func ways(in Inputs, label string) (*attempt, []way) {
	p := places(label)
	standIn := p.replacement().String()
	part, found := disk.OnDisk(in.Partitions, in.Disk, label)
	if !found {
		fault := fmt.Errorf("attach %s: not on disk %q", label, in.Disk)
		return &attempt{place: p, fault: fault}, []way{{fmt.Sprintf("%s is not on disk %q: %s", label, in.Disk, standIn), (*system).standInFor}}
	}
	a := &attempt{place: p, entry: p.at(part)}
	var all []way
	if wish, found := purge.Find(a.entry.Name); found && wish.Request != "" {
		all = append(all, way{"if " + wish.Request + " asks for it: write an empty file system first", (*system).attachAnew})
	}
	first := a.entry.String()
	if a.entry.Type == "ext4" {
		first += "; with " + quota.Option + " if it keeps quotas"
	}
	all = append(all, way{first, (*system).attachSound}, way{"if it is damaged: repair it first", (*system).attachRepaired})
	if label == disk.State {
		all = append(all, way{"beyond repair: copy it to " + asideDir + " and begin with an empty one", (*system).attachEmpty})
	}
	return a, append(all, way{"if that fails: " + standIn, (*system).standInFor})
}

func attachDeeds(label string) func(Inputs) []deed {
	return func(in Inputs) []deed {
		var lines []string
		_, all := ways(in, label)
		for _, w := range all {
			lines = append(lines, w.does)
		}
		return []deed{{lines, func(s *system) error { return s.attachPlace(label) }}}
	}
}

// attachPlace attaches a partition, or a tmpfs in its place.
func (s *system) attachPlace(label string) error {
	a, all := ways(s.Inputs, label)
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
func (s *system) standInFor(a *attempt) (over bool) {
	if a.place.label == disk.Data && a.entry.Source != "" {
		a.fault = fmt.Errorf("%w; it is left as it is. To give up all that is on it: osctl purge data, then osctl reboot", a.fault)
	}
	a.fault = s.standIn(a.place, a.fault)
	return true
}

// standIn attaches the tmpfs because of a fault, and returns both.
func (s *system) standIn(p place, fault error) error {
	if err := attach.Ensure(p.replacement()); err != nil {
		return errors.Join(fault, err)
	}
	return fmt.Errorf("%w; a tmpfs stands in for it until the next boot", fault)
}

// attachAnew gives a partition that could not be attached an empty file system, if its owner has asked for that.
func (s *system) attachAnew(a *attempt) (over bool) {
	wish, found := purge.Find(a.entry.Name)
	if !found || !purge.Asked(wish) {
		return false
	}
	over, a.fault = s.makeAnew(a.entry, wish)
	return over
}

// attachSound attaches what is not damaged, or does not show it.
func (s *system) attachSound(a *attempt) (over bool) {
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
func (s *system) attachRepaired(a *attempt) (over bool) {
	found, label := a.finding, a.place.label
	if found.Why == "" {
		return false
	}
	found.Gently = label == disk.State // renewState keeps all that is there
	s.log.Warn("file system needs a repair", "partition", label, "reason", found.Why)
	ctx, cancel := context.WithTimeout(context.Background(), patience[label])
	defer cancel()
	said, err := fsck.Repair(ctx, RunTool, found, a.entry.Type, a.entry.Source)
	if err == nil {
		s.log.Warn("file system repaired", "partition", label, "reason", said)
		s.repaired = append(s.repaired, label)
		if err = s.mount(a.entry); err == nil {
			a.fault = nil
			return true
		}
	}
	a.fault = fmt.Errorf("attach %s: %s: %w", label, found.Why, err)
	return false
}

// attachEmpty attaches an empty file system in the place of one that is beyond repair, whose content is kept. What is attached then
// comes with a fault: something of it was lost, and a person should know.
func (s *system) attachEmpty(a *attempt) (over bool) {
	if !errors.Is(a.fault, fsck.ErrBeyond) {
		return false
	}
	over, a.fault = s.renewState(a.entry, a.fault)
	return over
}

// makeAnew writes an empty file system over one that could not be attached, because its owner has asked for that.
func (s *system) makeAnew(entry attach.Entry, wish purge.Place) (attached bool, err error) {
	if err := fsck.Rebuild(entry.Source, fsck.Template(wish.Name)); err != nil {
		return false, fmt.Errorf("purge %s: %w", wish.Name, err)
	}
	s.log.Warn("partition purged", "partition", "resin-"+wish.Name, "reason", "its owner asked for an empty file system: "+wish.Request)
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

// corrupt reports whether a mount failed because of what lies on the disk, and not because it cannot be read or the kernel lacks something.
func corrupt(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EUCLEAN) || errors.Is(err, unix.EBADMSG)
}

// renewState puts a state that is beyond repair aside on the data partition, and an empty one in its place. Without a data partition
// that can take it the old one is left as it is; of one that cannot be read whole, or has no room there, what could be had is kept.
func (s *system) renewState(entry attach.Entry, fault error) (attached bool, err error) {
	if err := s.attachPlace(disk.Data); err != nil {
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

// maxSaid bounds what is kept of a tool's output.
const maxSaid = 64 << 10

// RunTool runs a program to its end in a process that has no reaper: PID 1 while no service runs yet, or a small daemon.
func RunTool(ctx context.Context, argv []string) (status int, output string, err error) {
	reaper := proc.NewReaper()
	reaping, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = reaper.Run(reaping) // returns when it is stopped
	}()
	defer func() { stop(); <-ended }()
	from, to, err := os.Pipe()
	if err != nil {
		return -1, "", err
	}
	defer from.Close() // only read
	said := make(chan string, 1)
	go func() {
		var b bytes.Buffer
		_, _ = io.Copy(&b, io.LimitReader(from, maxSaid)) // what was said until then is worth as much
		_, _ = io.Copy(io.Discard, from)                  // it must not wait for us
		said <- b.String()
	}()
	st, err := reaper.Do(ctx, proc.Command{Path: argv[0], Args: argv, Env: []string{"PATH=/usr/sbin:/usr/bin"}, Stdout: to, Stderr: to})
	_ = to.Close() // nothing was written by us
	output = <-said
	switch {
	case err != nil:
		return -1, output, err
	case !st.Wait.Exited():
		return -1, output, errors.New(st.String())
	}
	return st.Wait.ExitStatus(), output, nil
}

// purgePlace brings a partition back to what it was before its first use, if its owner has marked it, or marks have to be made.
func purgePlace(label string) func(*system) error {
	return func(s *system) error {
		entry := places(label).entry
		p, found := purge.Find(entry.Name)
		if found && purge.Settled(p) {
			return nil
		}
		have, err := attach.ReadMounts()
		if m, there := attach.At(have, entry.Target); err != nil || !found || !there || m.Type == "tmpfs" {
			return err // what stands in is new with every boot
		}
		wanted := purge.Wanted(p)
		spare := wanted && s.wasRepaired(label)
		steps, err := purge.Apply(p, spare)
		switch {
		case err != nil && wanted && !spare:
			// It is neither what it was nor empty: nobody may see it.
			if err := unix.Unmount(entry.Target, 0); err != nil {
				return fmt.Errorf("hide %s: %w", p.Name, err)
			}
			return s.standIn(places(label), err)
		case err != nil:
			return err
		case spare:
			s.log.Warn("purge is not done: its mark may come from the damage", "partition", label, "path", p.Target+"/"+purge.Flag)
		case wanted:
			s.log.Warn("partition purged", "partition", label, "count", len(steps)-2)
		}
		return nil
	}
}

func (s *system) wasRepaired(label string) bool {
	for _, one := range s.repaired {
		if one == label {
			return true
		}
	}
	return false
}

// purgeDeeds print the plans that purge.Apply chooses from.
func purgeDeeds(label string) func(Inputs) []deed {
	p, _ := purge.Find(places(label).entry.Name)
	held := p.Only
	if len(held) == 0 {
		held = []string{"everything"}
	}
	marked := append([]string{purge.Armed}, held...)
	lines := []string{
		fmt.Sprintf("%s without %s: %s", p.Target, purge.Armed, join(purge.Plan(p, nil, false))),
		fmt.Sprintf("without %s: %s", purge.Flag, join(purge.Plan(p, marked, false))),
		fmt.Sprintf("without it after a repair: %s", join(purge.Plan(p, marked, true))),
	}
	return func(Inputs) []deed { return []deed{{lines, purgePlace(label)}} }
}

func join(steps []purge.Step) string { return strings.Join(printed(steps), ", ") }
