// Package judge decides whether a device would recover with a given disk. It has a judge for each partition and for the
// partition table, and rules over the facts that these read. A new guarantee (of an update, for example) needs a judge
// of a region or a rule. The package never creates a disk. Read Judge first, then DeviceSuite.
package judge

import (
	"context"
	"fmt"
	"maps"
)

// PartitionTable names the one region that is no partition.
const PartitionTable = "partition table"

// A Verdict is what a judge says about a region.
type Verdict struct {
	Class string            // a few words; regions with the same words are of one class
	Bad   string            // why the device would not come back as it should; empty: it would
	Facts map[string]string // what can be read off it; a missing fact is not there
}

// A Judge looks at the content of one region, which lies in a file of its own. It may change the file, as the check of
// a file system at boot would: judges of one region stand in a row, and the next sees what the one before left.
type Judge interface {
	Region() string
	Judge(ctx context.Context, file string) (Verdict, error) // an error means that nothing is known
}

// A Rule looks at the facts of a whole disk and returns why it is bad, or nothing.
type Rule func(facts map[string]string) string

// A Suite is all that judges a recording.
type Suite struct {
	Judges []Judge
	Rules  []Rule
	// Contents are what a region may hold as a whole. Such a region has no judges: its verdict is that of the content
	// that it equals, and Other if there is none, however many states that takes.
	Contents []Content
	Other    map[string]Verdict // by region
	// Stable facts may not change any more once they were on the disk at a flush, until a free section begins.
	Stable []string
}

// A Content is what a region may hold as a whole: the bytes of a file from Base on. What the file lacks at the end is
// as it was in the image.
type Content struct {
	Region  string
	File    string
	Base    int64
	Size    int64
	Verdict Verdict
}

// Add lays another verdict of the same region, or disk, over v.
func (v Verdict) Add(other Verdict) Verdict {
	join := func(a, b string) string {
		switch {
		case a == "" || a == b:
			return b
		case b == "":
			return a
		}
		return a + "; " + b
	}
	facts := maps.Clone(v.Facts)
	if facts == nil {
		facts = map[string]string{}
	}
	maps.Copy(facts, other.Facts)
	return Verdict{join(v.Class, other.Class), join(v.Bad, other.Bad), facts}
}

// Run has all judges of a region look at it, one after the other. None of them may bring us down: what is on the
// disk is anything.
func (s Suite) Run(ctx context.Context, region, file string) (v Verdict, err error) {
	for _, j := range s.Judges {
		if j.Region() != region {
			continue
		}
		one, err := shielded(ctx, j, file)
		if err != nil {
			return v, fmt.Errorf("judge %s: %w", region, err)
		}
		v = v.Add(one)
	}
	return v, nil
}

func shielded(ctx context.Context, j Judge, file string) (v Verdict, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			v, err = Verdict{Class: "unreadable", Bad: fmt.Sprintf("reading it panics: %v", cause)}, nil
		}
	}()
	return j.Judge(ctx, file)
}
