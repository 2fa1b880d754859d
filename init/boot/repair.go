package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/fsck"
	"resinos/mounts/purge"
	"resinos/services/proc"
)

// asideDir is where a state that could not be repaired is kept.
const asideDir = "/mnt/data/set-aside"

// patience is what the repair of a file system may take. The watchdog runs when the boot partition's turn comes.
var patience = map[string]time.Duration{disk.Boot: bootTimeout * 2 / 3, disk.State: 5 * time.Minute, disk.Data: time.Hour}

// attachPlace attaches a partition, or a tmpfs in its place, so that everything above finds its folder.
func attachPlace(label string) func(*system) error {
	return func(s *system) error {
		p := places(label)
		part, found := disk.OnDisk(s.Partitions, s.Disk, label)
		if !found {
			return s.standIn(p, fmt.Errorf("attach %s: not on disk %q", label, s.Disk))
		}
		attached, err := s.attachSound(p, part)
		if attached {
			return err
		}
		if label == disk.Data {
			err = fmt.Errorf("%w; it is left as it is. To give up all that is on it: osctl purge data, then osctl reboot", err)
		}
		return s.standIn(p, err)
	}
}

// standIn attaches the tmpfs because of a fault, and returns both.
func (s *system) standIn(p place, fault error) error {
	if err := attach.Ensure(p.replacement()); err != nil {
		return errors.Join(fault, err)
	}
	return fmt.Errorf("%w; a tmpfs stands in for it until the next boot", fault)
}

// attachSound attaches a partition's file system, after a repair if it needs one. What is attached may come with an error: something of it
// was lost, and a person should know.
func (s *system) attachSound(p place, part disk.Partition) (attached bool, err error) {
	entry := p.at(part)
	if have, err := attach.ReadMounts(); err == nil {
		if _, there := attach.At(have, entry.Target); there {
			return true, nil
		}
	}
	if wish, found := purge.Find(entry.Name); found && purge.Asked(wish) {
		return s.makeAnew(entry, wish)
	}
	found, err := look(entry)
	if err != nil {
		return false, fmt.Errorf("attach %s: %w", p.label, err)
	}
	if found.Why == "" {
		if err = s.mount(entry); !corrupt(err) {
			return err == nil, err
		}
		found.Why = err.Error()
	}
	found.Gently = p.label == disk.State // renewState keeps all that is there
	s.log.Warn("file system needs a repair", "partition", p.label, "reason", found.Why)
	ctx, cancel := context.WithTimeout(context.Background(), patience[p.label])
	defer cancel()
	said, err := fsck.Repair(ctx, RunTool, found, entry.Type, entry.Source)
	if err == nil {
		s.log.Warn("file system repaired", "partition", p.label, "reason", said)
		s.repaired = append(s.repaired, p.label)
		if err = s.mount(entry); err == nil {
			return true, nil
		}
	}
	if p.label != disk.State || !errors.Is(err, fsck.ErrBeyond) {
		return false, fmt.Errorf("attach %s: %s: %w", p.label, found.Why, err)
	}
	return s.renewState(entry, err)
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
	fault = fmt.Errorf("attach %s: %w", disk.State, fault)
	if err := attachPlace(disk.Data)(s); err != nil {
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

func planPurge(label string) func(Inputs) []string {
	p, _ := purge.Find(places(label).entry.Name)
	what := "everything in " + p.Target
	if len(p.Only) > 0 {
		what = fmt.Sprintf("%v in %s", p.Only, p.Target)
	}
	return planText(fmt.Sprintf("if %s/%s was removed: remove %s, write it anew", p.Target, purge.Flag, what))
}
