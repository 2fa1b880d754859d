package servicefile

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/services/pid1"
	"resinos/services/spec"
	"resinos/services/spec/definition"
	"resinos/services/spec/keys"
)

// source is one file that says something of a service.
type source struct {
	Path   string    `json:"path"`
	Keys   []string  `json:"keys"`             // what it says; nothing of a file that is not used counts
	Faults []finding `json:"faults,omitempty"` // why it is not used
}

// shown is what show prints as JSON.
type shown struct {
	pid1.Shown
	Files  []source `json:"files"`
	Unread bool     `json:"unread,omitempty"` // the files say something else than what is in force
}

// Show runs the command show.
func Show(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	asJSON := flags.Bool("json", false, "prints JSON")
	names, err := cli.Parse(flags, args)
	if err != nil {
		return err
	}
	if len(names) != 1 {
		return cli.Misuse("show needs one service name", "try: osctl status")
	}
	var d shown
	if d.Shown, err = s.Client().Show(ctx, names[0]); err != nil {
		return cli.Silent(err)
	}
	s.compare(&d)
	if *asJSON {
		return s.PrintJSON(d)
	}
	_, err = io.WriteString(s.Stdout, definitionText(d))
	return err
}

// compare reads the service files as PID 1 does, and shows what they say beside what is in force.
func (s *session) compare(d *shown) {
	name := d.Status.Name
	list := layers(s.Root)
	for i, dir := range cli.ServiceDirs() {
		list[i].Path = dir // what messages call it, whatever stands for the root
	}
	all, faults := definition.Load(list...)
	at := slices.IndexFunc(all, func(sp spec.Spec) bool { return sp.Name == name })
	var used []string
	if d.Unread = at < 0; at >= 0 {
		used = all[at].Files
		d.Unread = body(all[at]) != body(d.Spec)
	}
	d.Files = []source{}
	for _, dir := range cli.ServiceDirs() {
		path := filepath.Join(dir, name+".toml")
		f := source{Path: path, Keys: []string{}}
		if slices.Contains(used, path) {
			f.Keys = s.keys(path)
		} else if f.Faults = faultsIn(path, faults); f.Faults == nil {
			continue // it has no file there
		}
		d.Files = append(d.Files, f)
	}
}

// keys are what a good service file says.
func (s *session) keys(path string) []string {
	data, err := cli.ReadBounded(filepath.Join(s.Root, path), definition.MaxSize)
	if err != nil {
		return []string{} // it has gone meanwhile
	}
	var said map[string]any
	_ = toml.Unmarshal(data, &said) // it was read a moment ago
	return slices.Sorted(maps.Keys(said))
}

// faultsIn picks what is wrong with one file; nil is nothing.
func faultsIn(path string, all []error) []finding {
	for _, err := range all {
		var faults keys.Faults
		switch found := errors.As(err, &faults); {
		case found && faults[0].File == path:
			return faultsOf(path, err)
		case !found && strings.Contains(err.Error(), filepath.Base(path)):
			return faultsOf(path, err)
		}
	}
	return nil
}

// body is a definition without where it comes from.
func body(sp spec.Spec) string {
	sp.Files = nil
	return screen.EscapeLines(definition.Render(sp))
}

// definitionText is the definition in force, headed by where it comes from.
func definitionText(d shown) string {
	var b strings.Builder
	name := screen.Escape(d.Status.Name)
	for _, f := range d.Files {
		if len(f.Faults) == 0 {
			fmt.Fprintf(&b, "# %s says %s\n", screen.Escape(f.Path), screen.Escape(strings.Join(f.Keys, ", ")))
			continue
		}
		fmt.Fprintf(&b, "# %s is not used:\n", screen.Escape(f.Path))
		for _, fault := range f.Faults {
			fmt.Fprintf(&b, "#   %s\n", screen.InLine(fault.text()))
		}
		b.WriteString("#   correct it, then: osctl rescan\n")
	}
	switch {
	case d.Status.Removed:
		b.WriteString("# the file of this service was removed: the service stops\n")
	case d.Unread:
		b.WriteString("# the files have changed since PID 1 read them: osctl rescan\n")
	case d.Status.Changed:
		b.WriteString("# the definition has changed since the service started: osctl restart " + name + "\n")
	}
	return b.String() + body(d.Spec)
}

// Rescan runs the command rescan.
func Rescan(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	dry := flags.Bool("n", false, "prints what it would do, and does nothing")
	asJSON := flags.Bool("json", false, "prints JSON")
	if err := cli.Bare(flags, args); err != nil {
		return err
	}
	if *dry {
		fmt.Fprintf(s.Stdout, "read the service files in %s again\n", strings.Join(cli.ServiceDirs(), " and "))
		return nil
	}
	found, err := s.rescan(ctx)
	if err != nil {
		return err
	}
	if *asJSON {
		err = s.PrintJSON(found)
	} else {
		_, err = io.WriteString(s.Stdout, s.rescanned(found))
	}
	if err == nil && len(found.Faults) > 0 {
		faults := screen.Count(len(found.Faults), "fault")
		return cli.Advise(fmt.Errorf("%s in the service files", faults),
			"try: osctl check "+cli.OwnerServices+"/*.toml")
	}
	return err
}

func (s *session) rescan(ctx context.Context) (pid1.Rescanned, error) {
	waited := s.Waiting("reading the service files")
	found, err := s.Client().Rescan(ctx)
	waited()
	return found, cli.Silent(err)
}

func (s *session) rescanned(found pid1.Rescanned) string {
	var b strings.Builder
	for _, part := range []struct {
		word  string
		names []string
		hint  string
	}{
		{"added", found.Added, ""},
		{"changed", found.Changed, " (in force from the next start on: osctl restart NAME)"},
		{"removed", found.Removed, ""},
	} {
		if len(part.names) > 0 {
			fmt.Fprintf(&b, "%s: %s%s\n", part.word, screen.Escape(strings.Join(part.names, ", ")), part.hint)
		}
	}
	for _, fault := range found.Faults {
		b.WriteString(s.Paint(screen.Red, "fault") + ": " + screen.EscapeLines(fault) + "\n")
	}
	if b.Len() == 0 {
		return "nothing has changed\n"
	}
	return b.String()
}
