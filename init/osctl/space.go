package osctl

import (
	"context"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
	"resinos/mounts/quota"
)

// Space is how full one of the device's partitions is, or what containers may take of data. Sizes are bytes; -1 is unknown.
type Space struct {
	Name     string `json:"name"`   // boot, state, data, containers
	Target   string `json:"target"` // where it is attached
	Source   string `json:"source"`
	Total    int64  `json:"total"`
	Used     int64  `json:"used"`
	Free     int64  `json:"free"`     // for everybody
	Reserved int64  `json:"reserved"` // free too, but only for the system
	// Inodes: folders and links count too. 0: the file system does not count them.
	Files     int64  `json:"files"`
	FilesUsed int64  `json:"files_used"`
	FilesFree int64  `json:"files_free"`
	Marks     []Mark `json:"marks,omitempty"`
	Note      string `json:"note,omitempty"` // what is as it is, and nobody's fault
}

// Mark is what is wrong with a partition.
type Mark string

// The marks.
const (
	InRAM    Mark = "in RAM: what is written is gone at power off"
	ReadOnly Mark = "read-only after a fault: the next boot repairs it"
	Full     Mark = "full"
	Tight    Mark = "almost full"
	NoInodes Mark = "full: no file more"
	Detached Mark = "not attached"
)

// tight is the part of a partition, in percent, below which what is free is worth a word.
const tight = 5

// The notes of containers that only the end of the file system stops.
const (
	unlimited = "not limited: the file system keeps no quotas"
	unset     = "not limited: the boot has not set it; try: osctl boot"
)

func spaceCommand() command {
	return command{"space", looking, "[--json]", "show how full the partitions are, and what is held back for the system", "osctl space", space}
}

func space(_ context.Context, s *session, flags *flag.FlagSet, args []string) error {
	asJSON := flags.Bool("json", false, "print JSON")
	if err := bare(flags, args); err != nil {
		return err
	}
	all := s.spaces()
	if len(all) == 0 {
		return &failure{fmt.Errorf("no partition is attached below %s", filepath.Join(s.Root, "mnt")), "osctl works on a resinOS device only"}
	}
	if *asJSON {
		return s.printJSON(all)
	}
	_, err := io.WriteString(s.Stdout, s.spaceTable(all))
	return err
}

// spaces looks at the partitions that the device writes. Without any of them this is no device of ours, and the list is empty.
func (s *session) spaces() []Space {
	mounts, err := attach.ParseMountinfo(s.read("proc/self/mountinfo"))
	if err != nil {
		return nil
	}
	statfs := s.statfs
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
	p := Space{Name: "containers", Target: filepath.Join(data.Target, quota.Folders()[0]), Source: data.Source}
	observe := s.observe
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

// spaceTable is a section of status too; it is empty where there are no partitions.
func (s *session) spaceTable(all []Space) string {
	if len(all) == 0 {
		return ""
	}
	rows := [][]cell{header("SPACE", ">TOTAL", ">USED", ">FREE", ">RESERVED", ">FILES", "NOTE")}
	for _, p := range all {
		var notes []string
		for _, m := range p.Marks {
			notes = append(notes, string(m))
		}
		c := plain
		if len(notes) > 0 {
			c = red
		}
		if p.Note != "" {
			notes = append(notes, escape(p.Note))
		}
		rows = append(rows, []cell{
			{text: p.Name}, {text: size(p.Total), right: true}, {text: size(p.Used), right: true}, {text: size(p.Free), right: true},
			{text: size(p.Reserved), right: true}, {text: p.files(), right: true}, {text: strings.Join(notes, "; "), colour: c},
		})
	}
	return s.table(rows)
}
