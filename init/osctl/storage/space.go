// Package storage owns the commands of osctl about partitions: they show how full each one is and what it should hold,
// and mark one to be purged. The package never removes anything itself: the next boot purges the marked partition. Read
// Space first.
package storage

import (
	"context"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/diskuse"
	"resinos/init/osctl/screen"
	"resinos/mounts/attach"
	"resinos/mounts/quota"
)

// session is one call, with the methods of this package.
type session struct{ *cli.Session }

// Space is how full one of the device's partitions is, or what containers may take of data. Sizes are bytes; -1 is
// unknown.
type Space struct {
	Name     string `json:"name"`   // boot, state, data, containers
	Target   string `json:"target"` // where it is attached
	Source   string `json:"source"`
	Total    int64  `json:"total"`
	Used     int64  `json:"used"`
	Free     int64  `json:"free"`     // for everybody
	Reserved int64  `json:"reserved"` // free too, but only for the system
	// Inodes: directories and links count too. 0: the file system does not count them.
	Files     int64  `json:"files"`
	FilesUsed int64  `json:"files_used"`
	FilesFree int64  `json:"files_free"`
	Marks     []Mark `json:"marks,omitempty"`
	Note      string `json:"note,omitempty"` // what is as it is, and nobody's fault
	// Of data, when it or the containers' part of it is full or almost, or somebody asks: who uses it.
	FilledBy  []diskuse.User `json:"filled_by,omitempty"`
	Uncounted bool           `json:"uncounted,omitempty"` // there was no time to look at all of it
}

// Mark is what is wrong with a partition.
type Mark string

// The marks.
const (
	InRAM    Mark = "in RAM: everything written is lost at power off"
	ReadOnly Mark = "read-only after a fault: the next boot repairs it"
	Full     Mark = "full"
	Tight    Mark = "almost full"
	NoInodes Mark = "full: no more files"
	Detached Mark = "not attached"
)

// tight is the part of a partition, in percent, below which what is free is worth a word.
const tight = 5

// The notes of containers that only the end of the file system stops.
const (
	unlimited = "not limited: the file system has no quotas"
	unset     = "not limited: the boot could not set the limit; try: osctl boot"
)

func Show(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	who := flags.Bool("who", false, "shows what uses data, however much is free")
	asJSON := flags.Bool("json", false, "prints JSON")
	if err := cli.Bare(flags, args); err != nil {
		return err
	}
	all := Spaces(s.Session)
	if len(all) == 0 {
		return cli.Advise(fmt.Errorf("no partition is attached below %s", filepath.Join(s.Root, "mnt")),
			"osctl works on a resinOS device only")
	}
	s.fill(ctx, all, *who)
	if *asJSON {
		return s.PrintJSON(all)
	}
	_, err := io.WriteString(s.Stdout, Table(s.Session, all)+s.fillTable(all))
	return err
}

const (
	// countPatience bounds the count of who uses data: a million files on a slow card take minutes.
	countPatience = 10 * time.Second
	// maxUsers are told on a terminal.
	maxUsers = 12
)

// fill finds out who uses data, if there is a need to know.
func (s *session) fill(ctx context.Context, all []Space, asked bool) {
	if !asked && !DataIsFull(all) {
		return
	}
	mounts, err := s.mounts()
	for i := range all {
		if p := &all[i]; p.Name == "data" && p.Total > 0 && err == nil {
			ctx, cancel := context.WithTimeout(ctx, countPatience)
			list, whole := diskuse.Count(ctx, s.Root, p.Target, mounts)
			cancel()
			p.FilledBy, p.Uncounted = list, !whole
		}
	}
}

// DataIsFull reports whether data is used up, or almost, or what containers may take of it.
func DataIsFull(all []Space) bool {
	return slices.ContainsFunc(all, func(p Space) bool {
		return (p.Name == "data" || p.Name == "containers") &&
			p.isFull()
	})
}

func (s *session) mounts() ([]attach.Mount, error) {
	text, err := cli.ReadBounded(filepath.Join(s.Root, "proc/self/mountinfo"), maxMounts)
	if err != nil {
		return nil, err
	}
	return attach.ParseMountinfo(string(text))
}

// maxMounts is room for the mounts of a thousand containers with many layers each.
const maxMounts = 4 << 20

// isFull reports whether something is used up, or almost.
func (p *Space) isFull() bool {
	return slices.ContainsFunc(p.Marks, func(m Mark) bool { return m == Full || m == Tight || m == NoInodes })
}

// Spaces looks at the partitions that the device writes. Without any of them this is no device of ours, and the list is
// empty.
func Spaces(call *cli.Session) []Space {
	s := &session{call}
	mounts, err := s.mounts()
	if err != nil {
		return nil
	}
	statfs := s.Statfs
	if statfs == nil {
		statfs = unix.Statfs
	}
	var all []Space
	found := false
	for _, name := range []string{"boot", "state", "data"} {
		p := Space{Name: name, Target: "/mnt/" + name}
		m, there := attach.At(mounts, p.Target)
		var st unix.Statfs_t
		if there {
			there = statfs(filepath.Join(s.Root, p.Target), &st) == nil
		}
		if there {
			found = true
			p.Source = m.Source
			p.measure(&st)
			p.Marks = append(judge(m), p.fullness()...)
		} else {
			p.Marks = []Mark{Detached}
		}
		all = append(all, p)
		if name == "data" && there && m.Type == "ext4" {
			all = append(all, s.ofContainers(m, &p))
		}
	}
	if !found {
		return nil
	}
	return all
}

// ofContainers is what containers use of data, of how much.
func (s *session) ofContainers(m attach.Mount, data *Space) Space {
	p := Space{Name: "containers", Target: filepath.Join(data.Target, quota.Directories()[0]), Source: data.Source}
	observe := s.Observe
	if observe == nil {
		observe = quota.Observe
	}
	used, limit, err := observe(filepath.Join(s.Root, data.Target))
	switch {
	case !quota.On(m.Super):
		p.Note = unlimited
	case err != nil:
		p.Note = err.Error()
	case limit == (quota.Amount{}):
		p.Note = unset
	}
	if p.Note != "" {
		p.Total, p.Used, p.Free, p.Reserved, p.Files, p.FilesUsed, p.FilesFree = -1, -1, -1, -1, -1, -1, -1
		return p
	}
	p.Total, p.Used, p.Files, p.FilesUsed = int64(limit.Space), int64(used.Space), limit.Files, used.Files
	// The rest of the limit is theirs only as far as the system has left it.
	p.Free, p.FilesFree = max(0, min(p.Total-p.Used, data.Free)), max(0, min(p.Files-p.FilesUsed, data.FilesFree))
	p.Marks = p.fullness()
	return p
}

func (p *Space) measure(st *unix.Statfs_t) {
	unit := int64(st.Bsize)
	p.Total, p.Free = int64(st.Blocks)*unit, int64(st.Bavail)*unit
	p.Used, p.Reserved = int64(st.Blocks-st.Bfree)*unit, int64(st.Bfree-st.Bavail)*unit
	p.Files, p.FilesUsed, p.FilesFree = int64(st.Files), int64(st.Files-st.Ffree), int64(st.Ffree)
}

// judge says what is wrong with a mount.
func judge(m attach.Mount) []Mark {
	var marks []Mark
	if m.Type == "tmpfs" {
		marks = append(marks, InRAM)
	}
	for option := range strings.SplitSeq(m.Super, ",") {
		if option == "ro" {
			marks = append(marks, ReadOnly)
		}
	}
	return marks
}

// fullness is the mark for what is used up, or almost.
func (p *Space) fullness() []Mark {
	switch {
	case p.Free == 0:
		return []Mark{Full}
	case p.Files > 0 && p.FilesFree == 0:
		return []Mark{NoInodes}
	case p.Free < p.Total/100*tight || p.FilesFree < p.Files/100*tight:
		return []Mark{Tight}
	}
	return nil
}

// files is how many there are, of how many.
func (p *Space) files() string {
	if p.Files <= 0 {
		return "-"
	}
	return fmt.Sprintf("%d of %d", p.FilesUsed, p.Files)
}

// Table is a section of status too; it is empty where there are no partitions.
func Table(s *cli.Session, all []Space) string {
	if len(all) == 0 {
		return ""
	}
	rows := [][]screen.Cell{screen.Header("SPACE", ">TOTAL", ">USED", ">FREE", ">RESERVED", ">FILES", "NOTE")}
	for _, p := range all {
		var notes []string
		for _, m := range p.Marks {
			notes = append(notes, string(m))
		}
		c := screen.Plain
		if len(notes) > 0 {
			c = screen.Red
		}
		if p.Note != "" {
			notes = append(notes, screen.InLine(p.Note))
		}
		rows = append(rows, []screen.Cell{
			{Text: p.Name}, {Text: screen.Size(p.Total), Right: true}, {Text: screen.Size(p.Used), Right: true},
			{Text: screen.Size(p.Free), Right: true},
			{Text: screen.Size(p.Reserved), Right: true}, {Text: p.files(), Right: true},
			{Text: strings.Join(notes, "; "), Colour: c},
		})
	}
	return s.Table(rows)
}

// fillTable tells who uses data, nothing if nobody was looked for.
func (s *session) fillTable(all []Space) string {
	for _, p := range all {
		if len(p.FilledBy) == 0 {
			continue
		}
		rows := [][]screen.Cell{screen.Header("USED BY", ">USED", ">FILES", "WHAT")}
		counted := int64(0)
		for i, f := range p.FilledBy {
			counted += f.Used
			if i < maxUsers {
				rows = append(rows, []screen.Cell{{Text: screen.Escape(f.Who)}, {Text: screen.Size(f.Used),
					Right: true}, {Text: strconv.FormatInt(f.Files, 10), Right: true}, {Text: screen.Escape(f.What),
					Colour: screen.Dim}})
			}
		}
		text := "\n" + s.Table(rows)
		switch rest := p.Used - counted; {
		case p.Uncounted:
			text += s.Fit("not everything was counted within "+countPatience.String()) + "\n"
		case rest > p.Total/100*tight:
			text += s.Fit(screen.Size(rest)+" more have no name: removed files that are still open, and the file "+
				"system itself") + "\n"
		}
		return text
	}
	return ""
}
