package partition

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
	"resinos/mounts/purge"
)

// Purge brings a partition back to what it was before its first use, if its owner has marked it, or marks have to be
// made.
func (s *Attacher) Purge(label string) error {
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
	spare := wanted && slices.Contains(s.repaired, label)
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
		s.Log.Warn("purge is not done: its mark may come from the damage", "partition", label, "path",
			p.Target+"/"+purge.Flag)
	case wanted:
		s.Log.Warn("partition purged", "partition", label, "count", len(steps)-2)
	}
	return nil
}

// PurgePlan prints the plans that Purge chooses from.
func PurgePlan(label string) []string {
	p, _ := purge.Find(places(label).entry.Name)
	held := p.Only
	if len(held) == 0 {
		held = []string{"everything"}
	}
	marked := append([]string{purge.Armed}, held...)
	return []string{
		fmt.Sprintf("%s without %s: %s", p.Target, purge.Armed, join(purge.Plan(p, nil, false))),
		fmt.Sprintf("without %s: %s", purge.Flag, join(purge.Plan(p, marked, false))),
		fmt.Sprintf("without it after a repair: %s", join(purge.Plan(p, marked, true))),
	}
}

func join(steps []purge.Step) string {
	lines := make([]string, len(steps))
	for i, s := range steps {
		lines[i] = s.String()
	}
	return strings.Join(lines, ", ")
}
