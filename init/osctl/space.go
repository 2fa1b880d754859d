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
)

// Space is how full one of the device's partitions is. Sizes are bytes.
type Space struct {
	Name     string `json:"name"`   // boot, state, data
	Target   string `json:"target"` // where it is attached
	Source   string `json:"source"`
	Total    int64  `json:"total"`
	Used     int64  `json:"used"`
	Free     int64  `json:"free"`     // for everybody
	Reserved int64  `json:"reserved"` // free too, but only for the system
	Marks    []Mark `json:"marks,omitempty"`
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
			p.Marks = judge(m, &st)
		} else {
			p.Marks = []Mark{Detached}
		}
		all = append(all, p)
	}
	if !found {
		return nil
	}
	return all
}

func (p *Space) measure(st *unix.Statfs_t) {
	unit := int64(st.Bsize)
	p.Total, p.Free = int64(st.Blocks)*unit, int64(st.Bavail)*unit
	p.Used, p.Reserved = int64(st.Blocks-st.Bfree)*unit, int64(st.Bfree-st.Bavail)*unit
}

// judge says what is wrong with a mount.
func judge(m attach.Mount, st *unix.Statfs_t) []Mark {
	var marks []Mark
	if m.Type == "tmpfs" {
		marks = append(marks, InRAM)
	}
	for option := range strings.SplitSeq(m.Super, ",") {
		if option == "ro" {
			marks = append(marks, ReadOnly)
		}
	}
	switch {
	case st.Bavail == 0:
		marks = append(marks, Full)
	case st.Files > 0 && st.Ffree == 0:
		marks = append(marks, NoInodes)
	case st.Bavail*100 < st.Blocks*tight:
		marks = append(marks, Tight)
	}
	return marks
}

// spaceTable is a section of status too; it is empty where there are no partitions.
func (s *session) spaceTable(all []Space) string {
	if len(all) == 0 {
		return ""
	}
	rows := [][]cell{header("SPACE", ">TOTAL", ">USED", ">FREE", ">RESERVED", "NOTE")}
	for _, p := range all {
		var notes []string
		for _, m := range p.Marks {
			notes = append(notes, string(m))
		}
		c := plain
		if len(notes) > 0 {
			c = red
		}
		rows = append(rows, []cell{
			{text: p.Name}, {text: size(p.Total), right: true}, {text: size(p.Used), right: true}, {text: size(p.Free), right: true},
			{text: size(p.Reserved), right: true}, {text: strings.Join(notes, "; "), colour: c},
		})
	}
	return s.table(rows)
}
