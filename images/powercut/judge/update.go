package judge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"resinos/bsp/bootvars"
	"resinos/bsp/slot"
	"resinos/bsp/update"
	"resinos/images/assemble"
	"resinos/images/layout"
	"resinos/mounts/fat"
)

// Facts of a disk that an update was written to.
const (
	FactVariables = "boot variables"
	FactRecord    = "update record"
	FactSlotA     = "slot A" // the name of its content, or Incomplete
	FactSlotB     = "slot B"
)

// Incomplete is a slot that holds no whole version.
const Incomplete = "incomplete"

// A Version is a whole slot that a recording knows: the bytes of a file.
type Version struct {
	Name   string // as the update record calls it; "" is a slot that nobody has written yet
	Digest string // of the bundle's slot
	File   string
	Base   int64
	Size   int64
}

// UpdateSuite is what a disk must be after a cut in an update: table and file systems are whole, one of the slots that
// the boot script may choose is whole whatever it meets, the record says of no slot that it holds what it does not
// hold, and the boots that follow end with a slot that is kept. config.json and what makes the device the one it is are
// not looked at: DeviceSuite does that.
func UpdateSuite(image string, mendsFAT bool, loader bootvars.Bootloader, versions []Version) (Suite, error) {
	plan, err := assemble.ReadTable(image)
	if err != nil {
		return Suite{}, err
	}
	table := Table{UUIDs: map[int]string{}}
	for _, p := range plan.Partitions {
		table.UUIDs[p.Number] = p.GUID
	}
	s := Suite{
		Judges: []Judge{table,
			FAT{Partition: layout.Boot, Mends: mendsFAT, Read: variablesOf(loader)},
			Ext4{Partition: layout.State, Texts: map[string]string{FactRecord: "/update.json"}}},
		Other: map[string]Verdict{},
		Rules: []Rule{remembered(func(facts map[string]string) string { return updateRule(loader, versions, facts) })},
	}
	for region, fact := range map[string]string{layout.RootA: FactSlotA, layout.RootB: FactSlotB} {
		s.Other[region] = Verdict{Class: Incomplete, Facts: map[string]string{fact: Incomplete}}
		for _, v := range versions {
			s.Contents = append(s.Contents, Content{region, v.File, v.Base, v.Size,
				Verdict{Class: "holds " + named(v.Name), Facts: map[string]string{fact: v.Name}}})
		}
	}
	return s, nil
}

// remembered is a rule that judges the same facts once.
func remembered(rule Rule) Rule {
	known := map[[4]string]string{}
	return func(facts map[string]string) string {
		key := [4]string{facts[FactVariables], facts[FactRecord], facts[FactSlotA], facts[FactSlotB]}
		bad, seen := known[key]
		if !seen {
			bad = rule(facts)
			known[key] = bad
		}
		return bad
	}
}

func named(version string) string {
	if version == "" {
		return "nothing yet"
	}
	return version
}

// variablesOf reads the boot variables as the bootloader does.
func variablesOf(loader bootvars.Bootloader) func(*fat.FileSystem) (Verdict, error) {
	return func(files *fat.FileSystem) (Verdict, error) {
		text, err := files.Read("/" + loader.File())
		if err == nil {
			_, err = loader.Parse(text)
		}
		if err != nil {
			return Verdict{Class: "no boot variables", Bad: fmt.Sprintf("boot variables: %v", err)}, nil
		}
		return Verdict{Facts: map[string]string{FactVariables: string(text)}}, nil
	}
}

// outlook is a disk as the boots that follow a cut find it.
type outlook struct {
	variables bootvars.Variables
	record    update.Record
	holds     map[slot.Name]string
	boots     int
}

// updateRule judges variables, record and slots together.
func updateRule(loader bootvars.Bootloader, versions []Version, facts map[string]string) string {
	v, err := loader.Parse([]byte(facts[FactVariables]))
	if err != nil {
		return err.Error()
	}
	o := outlook{variables: v, holds: map[slot.Name]string{slot.A: facts[FactSlotA], slot.B: facts[FactSlotB]}}
	if text, there := facts[FactRecord]; there {
		if o.record, err = update.Parse([]byte(text)); err != nil {
			return err.Error()
		}
	}
	for _, name := range []slot.Name{slot.A, slot.B} {
		if bad := o.claim(name, versions); bad != "" {
			return bad
		}
	}
	if name := v.Try; name.Valid() && !o.whole(name) {
		return fmt.Sprintf("slot %s is on trial, and it is %s", name, o.holds[name])
	}
	return o.follow()
}

func (o outlook) whole(name slot.Name) bool {
	return o.holds[name] != Incomplete && o.holds[name] != ""
}

// claim compares what the record says of a slot with what it holds. To say nothing is allowed.
func (o outlook) claim(name slot.Name, versions []Version) string {
	c, claimed := o.record.Slots[name]
	if !claimed {
		return ""
	}
	for _, v := range versions {
		if v.Name == o.holds[name] && v.Name == c.Version && (c.Digest == "" || v.Digest == c.Digest) {
			return ""
		}
	}
	return fmt.Sprintf("the record says that slot %s holds version %s, it is %q", name, c.Version, o.holds[name])
}

// mostBoots is how many boots may pass until a slot is kept: three of a trial, and the way back.
const mostBoots = 6

// follow carries out the boots that come, for all that may happen in them, and says what is wrong with one.
func (o outlook) follow() string {
	if o.boots++; o.boots > mostBoots {
		return fmt.Sprintf("no slot is kept after %d boots", mostBoots)
	}
	for _, writes := range []bool{true, false} {
		for _, loads := range o.loads() {
			b := o.variables.Boot(bootvars.Firmware{Writes: writes, Loads: loads})
			if b.Slot == "" || !o.whole(b.Slot) {
				return fmt.Sprintf("slot %q is booted, and it is %q (variables %+v)", b.Slot, o.holds[b.Slot],
					o.variables)
			}
			if bad := o.booted(b); bad != "" {
				return bad
			}
		}
	}
	return ""
}

// loads lists what the bootloader may find: a kernel may load from a slot that is not whole, and may not from one that
// is on trial.
func (o outlook) loads() []map[slot.Name]bool {
	return []map[slot.Name]bool{
		{slot.A: true, slot.B: true},
		{slot.A: o.whole(slot.A), slot.B: o.whole(slot.B)},
		{slot.A: o.whole(slot.A) && o.variables.Try != slot.A, slot.B: o.whole(slot.B) && o.variables.Try != slot.B},
	}
}

// booted is one boot, and what the device does in it. Without the word for an update it looks when it is asked for one.
func (o outlook) booted(b bootvars.Booted) string {
	s := update.Settle(o.record, update.Facts{Booted: b.Slot, Running: o.holds[b.Slot],
		BootID: fmt.Sprint("after the cut ", o.boots), Variables: b.After, Now: time.Unix(1, 0)})
	o.variables, o.record = s.Variables, s.Record
	switch {
	case !b.Update && (s.OnTrial || s.Leaving):
		return fmt.Sprintf("slot %s is on trial, and its boot is not informed of it", b.Slot)
	case s.Leaving:
		return o.leaves(b.Slot)
	case !s.OnTrial:
		return o.stays(b.Slot)
	}
	kept, left := o, o
	kept.record, kept.variables = s.Confirm("")
	left.record, left.variables = s.GiveUp(update.Unhealthy, "not well", nil)
	for _, bad := range []string{kept.stays(b.Slot), left.leaves(b.Slot), o.follow()} { // the third: it hangs
		if bad != "" {
			return bad
		}
	}
	return ""
}

// stays: no more boot of another slot may follow.
func (o outlook) stays(with slot.Name) string {
	if o.variables.Slot != with || o.variables.Try.Valid() {
		return fmt.Sprintf("slot %s runs and is not on trial, and the variables are %+v", with, o.variables)
	}
	if a, open := o.record.Current(); open {
		return fmt.Sprintf("slot %s stays, and an attempt is %s still", with, a.State)
	}
	return ""
}

// leaves: the next boot is that of the other slot.
func (o outlook) leaves(from slot.Name) string {
	if o.variables.Slot != from.Other() || o.variables.Try.Valid() || !o.whole(from.Other()) {
		return fmt.Sprintf("slot %s is left, slot %s is %q, and the variables are %+v", from, from.Other(),
			o.holds[from.Other()], o.variables)
	}
	return ""
}

// CheckSlot reads a slot as its manifest describes it: the file system is clean, and each file has its digest.
func CheckSlot(ctx context.Context, file string) error {
	if out, code, err := run(ctx, "e2fsck", "-fn", file); err != nil || code != 0 {
		return errors.Join(fmt.Errorf("e2fsck ends with %d: %s", code, shorten(out)), err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(file), "slot-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // scratch files; nothing is lost if they stay
	if err := assemble.DumpExt4(ctx, file, dir); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, slot.ManifestFile))
	if err != nil {
		return err
	}
	m, err := slot.ParseManifest(text)
	if err != nil {
		return err
	}
	if len(m.Files) == 0 {
		return errors.New("the manifest lists no file")
	}
	for _, f := range m.Files {
		content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Name)))
		if err != nil {
			return err
		}
		if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != f.SHA256 {
			return fmt.Errorf("file %s has another digest than in the manifest", f.Name)
		}
	}
	return nil
}
