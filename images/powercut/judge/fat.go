package judge

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"resinos/mounts/fat"
)

// A FAT judges a FAT32 file system: fsck.vfat says what a cut has left, the device's own repair is done to it, and then
// Read looks at what the device finds. Damage that the device does not repair is bad, even where all files can still be
// read: the next file takes the clusters of another.
type FAT struct {
	Partition string
	// the device runs "fsck.vfat -a" on one that was not unmounted, before it mounts it
	Mends bool
	Read  func(*fat.FileSystem) (Verdict, error) // may be nil
}

// Region is the partition.
func (x FAT) Region() string { return x.Partition }

// A complaint is a kind of line that fsck.vfat (dosfstools 4.2) prints and that is no damage: it loses no file and is
// in no file's way.
type complaint struct {
	line *regexp.Regexp
	word string // of the class; empty: of no interest
}

func complaints() []complaint {
	row := func(line, word string) complaint { return complaint{regexp.MustCompile(line), word} }
	return []complaint{
		row(`^$|^fsck\.fat |^Leaving filesystem unchanged|^\*\*\* Filesystem was changed|^Writing changes|^\d+ files, `,
			""),
		row(`^Dirty bit is set|^ *Automatically removing dirty bit`, "dirty"),
		// a hint (Microsoft FAT specification, FSInfo)
		row(`^Free cluster summary wrong|^ *Auto-correcting`, ""),
		// the dirty bit
		row(`^There are differences between boot sector and its backup|^This is mostly harmless|`+
			`^ *\d+:[0-9a-f]+/|^ *Not automatically`, ""),
		row(`^Reclaimed \d+ unused clusters?`, "lost clusters"),
		row(`^FATs differ|[Uu]sing first FAT`, "copies of the FAT differ"),
		row(`^Orphaned long file name part|^ *Auto-deleting`, "rest of a long name"),
	}
}

// Judge checks the file system and does what the device does.
func (x FAT) Judge(ctx context.Context, name string) (Verdict, error) {
	v, damage, err := examine(ctx, name)
	if err != nil {
		return Verdict{}, err
	}
	if x.Mends && slices.Contains(strings.Split(v.Class, ", "), "dirty") {
		said, code, err := run(ctx, "fsck.vfat", "-a", "-w", name)
		if err != nil {
			return Verdict{}, err
		}
		if damage != "" {
			v.Class += ", mended"
		}
		_, damage, err = examine(ctx, name)
		if err != nil {
			return Verdict{}, err
		}
		if code > 1 || damage != "" {
			damage = fmt.Sprintf("fsck.vfat -a ends with %d: %s; %s", code, shorten(said), damage)
		}
	}
	if damage != "" {
		v.Class, v.Bad = v.Class+", damaged", damage
	}
	if x.Read == nil {
		return v, nil
	}
	more, err := x.look(name)
	return v.Add(more), err
}

// examine sorts what fsck.vfat says into words of a class and damage.
func examine(ctx context.Context, name string) (v Verdict, damage string, err error) {
	out, code, err := run(ctx, "fsck.vfat", "-n", name)
	if err != nil {
		return v, "", err
	}
	var words, faults []string
	for line := range strings.Lines(strings.ReplaceAll(out, name+": ", "")) {
		word, known := classify(strings.TrimRight(line, "\n"))
		switch {
		case !known:
			faults = append(faults, strings.TrimSpace(line))
		case word != "" && !slices.Contains(words, word):
			words = append(words, word)
		}
	}
	if len(words) == 0 {
		words = []string{"clean"}
	}
	slices.Sort(words)
	v.Class = strings.Join(words, ", ")
	if len(faults) > 0 || code > 1 {
		damage = fmt.Sprintf("fsck.vfat ends with %d: %s", code, shorten(strings.Join(faults, "; ")))
	}
	return v, damage, nil
}

func classify(line string) (word string, known bool) {
	for _, c := range complaints() {
		if c.line.MatchString(line) {
			return c.word, true
		}
	}
	return "", false
}

func (x FAT) look(name string) (Verdict, error) {
	f, err := os.Open(name)
	if err != nil {
		return Verdict{}, err
	}
	defer f.Close() // read only: closing cannot lose anything
	files, err := fat.Open(f)
	if err != nil {
		return Verdict{Class: "unreadable", Bad: err.Error()}, nil
	}
	return x.Read(files)
}
