// Package recording owns the recording of the writes of a device to its disk and of its guarantees: it drives a device
// in QEMU through the workloads, has QEMU log each write and flush (blklogwrites), and reads that log again. It judges
// nothing. Read Recording first, then Session and Log.
package recording

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"resinos/mounts/atomicfile"
)

// Names of the files of a recording, in a directory of its own.
const (
	recordingFile = "recording.json"
	LogFile       = "writes.log"
	diskFile      = "disk.img"
)

// A Recording is what a device did to its disk, and what it promised meanwhile.
type Recording struct {
	Dir      string    `json:"-"`
	Image    string    `json:"image"` // the disk before the first write
	Built    time.Time `json:"built"` // when the image was written: another one under its name makes other disks
	Size     int64     `json:"size"`  // of the disk; zeros follow the image
	Board    string    `json:"board"`
	MendsFAT bool      `json:"mends_fat"` // the device repairs a FAT that was not unmounted before it mounts it
	Sections []Section `json:"sections"`
	Promises []Promise `json:"promises"`
}

// A Section is a stretch of the log with a name: what the device did then.
type Section struct {
	Name     string `json:"name"`
	From     int    `json:"from"`               // the entry it begins with; it lasts until the next
	Free     bool   `json:"free,omitempty"`     // stable facts may change in it: it wipes them
	Careless bool   `json:"careless,omitempty"` // its states are to be found bad
}

// A Promise says what a fact may be in every state that a cut leaves at entry From or later, until the next promise
// about that fact. The value "" stands for a fact that is not there, no values at all for anything.
type Promise struct {
	From   int      `json:"from"`
	Fact   string   `json:"fact"`
	Values []string `json:"values"`
}

// Load reads the recording in a directory.
func Load(dir string) (*Recording, error) {
	file := filepath.Join(dir, recordingFile)
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read recording: %w; make one with: resin powercut record", err)
	}
	r := &Recording{Dir: dir}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read recording %s: %w", file, err)
	}
	stat, err := os.Stat(r.Image)
	if err != nil {
		return nil, fmt.Errorf("read recording %s: its image: %w; record again", file, err)
	}
	if !stat.ModTime().Equal(r.Built) {
		return nil, fmt.Errorf("read recording %s: image %s was built again since; record again", file, r.Image)
	}
	return r, nil
}

// Save writes the recording into its directory.
func (r *Recording) Save() error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode recording: %w", err)
	}
	return atomicfile.Write(filepath.Join(r.Dir, recordingFile), append(text, '\n'), 0o644)
}

// OpenLog opens the log of the recording.
func (r *Recording) OpenLog() (*Log, error) { return OpenLog(filepath.Join(r.Dir, LogFile)) }

// Good lists the sections whose states shall all be good: all but those of careless workloads.
func (r *Recording) Good() []string {
	var names []string
	for _, s := range r.Sections {
		if !s.Careless {
			names = append(names, s.Name)
		}
	}
	return names
}

// section is the stretch that an entry lies in.
func (r *Recording) section(entry int) Section {
	found := Section{Name: "before"}
	for _, s := range r.Sections {
		if s.From <= entry {
			found = s
		}
	}
	return found
}

// SectionOf is the section that a state belongs to: the one in which the power went.
func (r *Recording) SectionOf(cut int) Section { return r.section(max(cut-1, 0)) }

// Judged reports whether a state is of one of the sections with these names; none means all. An epoch knows nothing of
// sections: what of its entries from first on a careless workload wrote, before the cut, is not held against another
// section.
func (r *Recording) Judged(names []string, first, cut int) bool {
	if len(names) == 0 {
		return true
	}
	for i, s := range r.Sections {
		begins := s.From < cut
		ends := i+1 < len(r.Sections) && r.Sections[i+1].From <= first
		if s.Careless && begins && !ends && !slices.Contains(names, s.Name) {
			return false
		}
	}
	return slices.Contains(names, r.SectionOf(cut).Name)
}

// InForce are the promises that hold for a cut at an entry.
func (r *Recording) InForce(cut int) []Promise {
	last := map[string]Promise{}
	var order []string
	for _, p := range r.Promises {
		if p.From > cut {
			continue
		}
		if !slices.Contains(order, p.Fact) {
			order = append(order, p.Fact)
		}
		last[p.Fact] = p
	}
	var out []Promise
	for _, fact := range order {
		out = append(out, last[fact])
	}
	return out
}

// CopyDisk makes a sparse file of the disk's size with the bytes of the image.
func CopyDisk(image, name string, size int64) error {
	from, err := os.Open(image)
	if err != nil {
		return fmt.Errorf("open image: %w", err)
	}
	defer from.Close() // read only: closing cannot lose anything
	to, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	defer to.Close() // a scratch file; what counts is checked below
	if err := to.Truncate(size); err != nil {
		return fmt.Errorf("make disk %s of %d bytes: %w", name, size, err)
	}
	return EachExtent(from, 0, size, func(start, end int64) error {
		_, err := io.Copy(io.NewOffsetWriter(to, start), io.NewSectionReader(from, start, end-start))
		if err != nil {
			return fmt.Errorf("copy %s to %s: %w", image, name, err)
		}
		return nil
	})
}
