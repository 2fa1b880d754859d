package powercut

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// A FAT judges a FAT file system. What fsck.vfat (dosfstools 4.2) finds falls into three: what a cut always leaves, what
// takes room or a file that was being made, and what takes more; the last is bad. Then Read looks into it.
type FAT struct {
	Partition string
	Read      func(*Files) (Verdict, error) // may be nil
}

// Region is the partition.
func (x FAT) Region() string { return x.Partition }

// A complaint is a kind of line that fsck.vfat prints. bad ones are those that its automatic repair (-a) cannot mend without
// loss of a file that was whole.
type complaint struct {
	line *regexp.Regexp
	word string // of the class; empty: of no interest
	bad  bool
}

func complaints() []complaint {
	row := func(line, word string, bad bool) complaint { return complaint{regexp.MustCompile(line), word, bad} }
	return []complaint{
		row(`^$|^fsck\.fat |^Leaving filesystem unchanged|^ *Auto-|^\d+ files, `, "", false),
		row(`^Dirty bit is set|^ *Automatically removing dirty bit`, "dirty", false),
		row(`^Free cluster summary wrong|^ *Auto-correcting`, "", false),                                                                            // a hint (Microsoft FAT specification, FSInfo)
		row(`^There are differences between boot sector and its backup|^This is mostly harmless|^ *\d+:[0-9a-f]+/|^ *Not automatically`, "", false), // the dirty bit
		row(`^Reclaimed \d+ unused clusters?`, "lost clusters", false),
		row(`^FATs differ|^Using first FAT|first FAT`, "copies of the FAT differ", false),
		row(`^Orphaned long file name part`, "rest of a long name", false),
	}
}

// Judge checks the file system.
func (x FAT) Judge(ctx context.Context, name string) (Verdict, error) {
	out, code, err := run(ctx, "fsck.vfat", "-n", name)
	if err != nil {
		return Verdict{}, err
	}
	v := Verdict{}
	var words, faults []string
	for line := range strings.Lines(strings.ReplaceAll(out, name+": ", "")) {
		word, bad := classify(strings.TrimRight(line, "\n"))
		if bad {
			faults = append(faults, strings.TrimSpace(line))
		} else if word != "" && !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	if v.Class = strings.Join(words, ", "); v.Class == "" {
		v.Class = "clean"
	}
	if len(faults) > 0 || code > 1 {
		v.Class, v.Bad = "damaged", fmt.Sprintf("fsck.vfat ends with %d: %s", code, shorten(strings.Join(faults, "; ")))
	}
	if x.Read == nil {
		return v, nil
	}
	more, err := x.look(name)
	return v.add(more), err
}

func classify(line string) (word string, bad bool) {
	for _, c := range complaints() {
		if c.line.MatchString(line) {
			return c.word, c.bad
		}
	}
	return "", true
}

func (x FAT) look(name string) (Verdict, error) {
	f, err := os.Open(name)
	if err != nil {
		return Verdict{}, err
	}
	defer f.Close() // read only: closing cannot lose anything
	files, err := OpenFiles(f)
	if err != nil {
		return Verdict{Class: "unreadable", Bad: err.Error()}, nil
	}
	return x.Read(files)
}
