package osctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"resinos/services/spec"
	"resinos/services/supervise"
)

// Where service files are: the image's, and the owner's, which replace them key by key.
const (
	shippedServices = "/usr/lib/resinos/services"
	ownerServices   = "/etc/resinos/services"
)

// serviceDirs in the order in which they are laid over each other.
func serviceDirs() []string { return []string{shippedServices, ownerServices} }

// source is one file that a definition comes from.
type source struct {
	Path string   `json:"path"`
	Keys []string `json:"keys"` // what it says
}

// definition is what show prints as JSON.
type definition struct {
	supervise.Shown
	Files []source `json:"files"`
}

func show(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error {
	asJSON := flags.Bool("json", false, "print JSON")
	names, err := parse(flags, args)
	if err != nil {
		return err
	}
	if len(names) != 1 {
		return &usage{"show needs the name of one service", "try: osctl status"}
	}
	var d definition
	if err := s.call(ctx, "show", target{Name: names[0]}, &d.Shown); err != nil {
		return err
	}
	d.Files = s.sources(names[0])
	if *asJSON {
		return s.printJSON(d)
	}
	_, err = io.WriteString(s.Stdout, definitionText(d))
	return err
}

// sources are the files of a service that are there.
func (s *session) sources(name string) []source {
	files := []source{}
	for _, dir := range serviceDirs() {
		path := filepath.Join(dir, name+".toml")
		data, err := readBounded(filepath.Join(s.Root, path), spec.MaxSize)
		if err != nil {
			continue // it has no file there
		}
		var said map[string]any
		_ = toml.Unmarshal(data, &said) // what a broken file says is the business of check
		keys := make([]string, 0, len(said))
		for key := range said {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		files = append(files, source{path, keys})
	}
	return files
}

// definitionText is the definition in force, headed by where it comes from.
func definitionText(d definition) string {
	var b strings.Builder
	for _, f := range d.Files {
		fmt.Fprintf(&b, "# %s says %s\n", escape(f.Path), escape(strings.Join(f.Keys, ", ")))
	}
	if d.Status.Changed {
		b.WriteString("# it has changed since the service was started: osctl restart " + escape(d.Status.Name) + "\n")
	}
	return b.String() + escapeLines(spec.Render(d.Spec))
}

func rescan(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error {
	dry := flags.Bool("n", false, "only say what would be done")
	asJSON := flags.Bool("json", false, "print JSON")
	if err := bare(flags, args); err != nil {
		return err
	}
	if *dry {
		fmt.Fprintf(s.Stdout, "read the service files in %s again\n", strings.Join(serviceDirs(), " and "))
		return nil
	}
	found, err := s.rescan(ctx)
	if err != nil {
		return err
	}
	if *asJSON {
		err = s.printJSON(found)
	} else {
		_, err = io.WriteString(s.Stdout, s.rescanned(found))
	}
	if err == nil && len(found.Faults) > 0 {
		return &failure{fmt.Errorf("%s in the service files", count(len(found.Faults), "fault")), "try: osctl check " + ownerServices + "/*.toml"}
	}
	return err
}

func (s *session) rescan(ctx context.Context) (supervise.Rescanned, error) {
	var found supervise.Rescanned
	settled := s.tell("reading the service files")
	err := s.call(ctx, "rescan", nil, &found)
	settled()
	return found, err
}

func (s *session) rescanned(found supervise.Rescanned) string {
	var b strings.Builder
	for _, part := range []struct {
		word  string
		names []string
		hint  string
	}{{"added", found.Added, ""}, {"changed", found.Changed, " (in force from the next start on: osctl restart NAME)"}, {"removed", found.Removed, ""}} {
		if len(part.names) > 0 {
			fmt.Fprintf(&b, "%s: %s%s\n", part.word, escape(strings.Join(part.names, ", ")), part.hint)
		}
	}
	for _, fault := range found.Faults {
		b.WriteString(s.paint(red, "fault") + ": " + escapeLines(fault) + "\n")
	}
	if b.Len() == 0 {
		return "nothing has changed\n"
	}
	return b.String()
}

// readBounded reads a regular file of at most limit bytes; a FIFO would hold us up for ever.
func readBounded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: %w", path, fs.ErrInvalid)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading: nothing to lose
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("read %s: %w", path, errTooLarge)
	}
	return data, err
}

var errTooLarge = errors.New("is larger than a service file may be")
