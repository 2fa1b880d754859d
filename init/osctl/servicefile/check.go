// Package servicefile owns the commands of osctl about service files: check before one is used; show what is in force,
// and from which files; mask and unmask, which write one line into a file of the owner; rescan. It keeps every other
// byte of such a file, and reads none itself: services/spec does. Read Check first.
package servicefile

import (
	"resinos/services/spec/definition"
	"resinos/services/spec/keys"

	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/services/spec"
)

// session is one call, with the methods of this package.
type session struct{ *cli.Session }

// The weights of a finding.
const (
	isFault   = "fault"   // the file is not in force
	isWarning = "warning" // it is, and will most likely not do what was meant
	isNote    = "note"    // something could not be checked here
)

// A finding is one thing that check reports about a file.
type finding struct {
	Weight string `json:"weight"`
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Key    string `json:"key,omitempty"`
	Text   string `json:"text"`
	Hint   string `json:"hint,omitempty"`
}

// text is the finding on one line.
func (f finding) text() string {
	return keys.Fault{File: f.File, Line: f.Line, Key: f.Key, Text: f.Text, Hint: f.Hint}.Error()
}

// Check runs the command check.
func Check(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	root := flags.String("root", s.Root, "looks programs, users and other services up in `DIR` instead of /")
	asJSON := flags.Bool("json", false, "prints JSON")
	files, err := cli.Parse(flags, args)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return cli.Misuse("check needs a service file", "try: osctl check "+cli.OwnerServices+"/NAME.toml")
	}
	c := s.surroundings(ctx, *root)
	for _, file := range files {
		if c.names != nil { // two new services may need each other
			c.names[strings.TrimSuffix(filepath.Base(file), ".toml")] = true
		}
	}
	found := []finding{}
	for _, file := range files {
		found = append(found, c.file(file)...)
	}
	if *asJSON {
		err = s.PrintJSON(found)
	} else {
		_, err = io.WriteString(s.Stdout, s.findings(files, found))
	}
	faults := 0
	for _, f := range found {
		if f.Weight == isFault {
			faults++
		}
	}
	if err == nil && faults > 0 {
		hint := "correct these lines, then: osctl check " + strings.Join(files, " ")
		return cli.Advise(errors.New(screen.Count(faults, "fault")), hint)
	}
	return err
}

func (s *session) findings(files []string, found []finding) string {
	var b strings.Builder
	for _, f := range found {
		c := map[string]screen.Colour{isFault: screen.Red, isWarning: screen.Yellow, isNote: screen.Dim}[f.Weight]
		b.WriteString(s.Paint(c, f.Weight) + ": " + screen.Escape(f.text()) + "\n")
	}
	for _, file := range files {
		if !slices.ContainsFunc(found, func(f finding) bool { return f.File == file && f.Weight != isNote }) {
			b.WriteString(s.Paint(screen.Green, "good") + ": " + screen.Escape(file) + "\n")
		}
	}
	return b.String()
}

// checker knows what surrounds the files that are checked.
type checker struct {
	root   string
	device bool               // root is one of ours: programs and users can be looked up
	layers []definition.Layer // of root
	others []spec.Spec        // the services of root
	names  map[string]bool    // the services that PID 1 knows; nil when it does not answer
}

func (s *session) surroundings(ctx context.Context, root string) checker {
	c := checker{root: root}
	if root == "" {
		return c // only the flags are wanted
	}
	if info, err := os.Stat(filepath.Join(root, cli.ShippedServices)); err == nil {
		c.device = info.IsDir()
	}
	c.layers = layers(root)
	c.others, _ = definition.Load(c.layers...) // faults of others are not asked for
	if list, err := s.Services(ctx); err == nil {
		c.names = map[string]bool{}
		for _, st := range list {
			c.names[st.Name] = true
		}
	}
	return c
}

// file checks one file. Only a good one gets warnings: those of a bad one would be guesses.
func (c checker) file(path string) []finding {
	data, err := cli.ReadBounded(path, definition.MaxSize)
	if err != nil && !errors.Is(err, cli.ErrTooLarge) { // Parse says it of that one
		return []finding{{Weight: isFault, File: path, Text: cause(err), Hint: "name a service file"}}
	}
	sp, surprises, err := definition.Check(path, data, c.layers...)
	if err != nil {
		return faultsOf(path, err)
	}
	found := c.warnings(path, sp, data)
	for _, f := range surprises {
		if !tied(f.Key) { // those are looked up in what runs
			found = append(found, finding{isWarning, f.File, f.Line, f.Key, f.Text, f.Hint})
		}
	}
	return found
}

// layers are the directories of service files below root, the lowest first.
func layers(root string) []definition.Layer {
	var list []definition.Layer
	for _, dir := range cli.ServiceDirs() {
		list = append(list, definition.Layer{FS: os.DirFS(root), Dir: strings.TrimPrefix(dir, "/"),
			Path: filepath.Join(root, dir)})
	}
	return list
}

// tied reports whether a key names other services.
func tied(key string) bool {
	return slices.Contains([]string{"needs", "wants", "after", "conflicts"}, key)
}

// cause is the innermost text of an error of the file system: the path stands in front of it already.
func cause(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

func faultsOf(path string, err error) []finding {
	var faults keys.Faults
	if !errors.As(err, &faults) {
		return []finding{{Weight: isFault, File: path, Text: err.Error()}}
	}
	found := make([]finding, len(faults))
	for i, f := range faults {
		found[i] = finding{isFault, f.File, f.Line, f.Key, f.Text, f.Hint}
	}
	return found
}

// warnings look at what a file names.
func (c checker) warnings(path string, sp spec.Spec, data []byte) []finding {
	var found []finding
	add := func(weight, key, text, hint string) {
		found = append(found, finding{weight, path, lineOf(data, key), key, text, hint})
	}
	if c.device {
		c.programs(sp, add)
		c.accounts(sp, add)
	} else {
		text := c.root + " is no resinOS root: programs, users and ports were not checked"
		add(isNote, "", text, "osctl check --root DIR")
	}
	c.ports(sp, add)
	c.ties(sp, add)
	if sp.Start == spec.OnDemand && !sp.Demand() {
		hint := "add listen, timer-every or watch-paths, or start it by hand with osctl start"
		add(isWarning, "start", "nothing starts it", hint)
	}
	return found
}

func (c checker) programs(sp spec.Spec, add func(weight, key, text, hint string)) {
	for _, command := range []struct {
		key  string
		argv []string
	}{
		{"command", sp.Command}, {"ready-command", sp.Ready.Command},
		{"reload-command", sp.ReloadCommand}, {"health-command", sp.Health.Command},
	} {
		if len(command.argv) == 0 {
			continue
		}
		program := command.argv[0]
		info, err := c.stat(program)
		switch {
		case err != nil:
			add(isWarning, command.key, fmt.Sprintf("program %s: %s", program, cause(err)), "check the spelling")
		case info.IsDir():
			add(isWarning, command.key, fmt.Sprintf("program %s is a directory", program), "name a file")
		case info.Mode()&0o111 == 0:
			add(isWarning, command.key, fmt.Sprintf("program %s is not executable", program), "chmod +x "+program)
		}
	}
}

// stat follows symbolic links as a process would whose root is c.root.
func (c checker) stat(name string) (fs.FileInfo, error) {
	for range 40 { // as many as the kernel follows
		resolved, link, err := c.step(name)
		if err != nil {
			return nil, err
		}
		if !link {
			return os.Lstat(filepath.Join(c.root, resolved))
		}
		name = resolved
	}
	return nil, errors.New("too many symbolic links")
}

// step replaces the first symbolic link in name by what it points to.
func (c checker) step(name string) (resolved string, link bool, err error) {
	parts := strings.Split(strings.Trim(filepath.Clean(name), "/"), "/")
	for i := range parts {
		here := "/" + strings.Join(parts[:i+1], "/")
		info, err := os.Lstat(filepath.Join(c.root, here))
		if err != nil {
			return "", false, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		to, err := os.Readlink(filepath.Join(c.root, here))
		if err != nil {
			return "", false, err
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(here), to)
		}
		return filepath.Join(append([]string{to}, parts[i+1:]...)...), true, nil
	}
	return name, false, nil
}

func (c checker) accounts(sp spec.Spec, add func(weight, key, text, hint string)) {
	for _, account := range []struct {
		key, file string
		names     []string
	}{
		{"user", "etc/passwd", []string{sp.User}}, {"group", "etc/group", []string{sp.Group}},
		{"supplementary-groups", "etc/group", sp.SupplementaryGroups},
		{"listen-user", "etc/passwd", []string{sp.Listen.User}},
		{"listen-group", "etc/group", []string{sp.Listen.Group}},
	} {
		for _, name := range account.names {
			if !c.account(account.file, name) {
				text := fmt.Sprintf("%q is not in /%s", name, account.file)
				add(isWarning, account.key, text, "write a number, or a name from this file")
			}
		}
	}
}

// account reports whether a name can be resolved; a number always can.
func (c checker) account(file, name string) bool {
	if _, err := strconv.ParseUint(name, 10, 32); err == nil || name == "" {
		return true
	}
	data, err := cli.ReadBounded(filepath.Join(c.root, file), 1<<20)
	if err != nil {
		return true // without the file nobody knows
	}
	for line := range strings.Lines(string(data)) {
		if first, _, _ := strings.Cut(line, ":"); first == name {
			return true
		}
	}
	return false
}

func (c checker) ports(sp spec.Spec, add func(weight, key, text, hint string)) {
	for _, other := range c.others {
		if other.Name == sp.Name {
			continue
		}
		for _, mine := range sp.Listen.Sockets {
			for _, theirs := range other.Listen.Sockets {
				if mine.Network == theirs.Network && mine.Address == theirs.Address {
					text := fmt.Sprintf("%s:%s belongs to service %s too", mine.Network, mine.Address, other.Name)
					add(isWarning, "listen", text, "only one service can listen there")
				}
			}
		}
	}
}

func (c checker) ties(sp spec.Spec, add func(weight, key, text, hint string)) {
	if c.names == nil {
		if len(sp.Needs)+len(sp.Wants) > 0 {
			add(isNote, "", "PID 1 does not answer: needs and wants were not checked", "")
		}
		return
	}
	var all []string
	for name := range c.names {
		all = append(all, name)
	}
	slices.Sort(all)
	for _, tie := range []struct {
		key, effect string
		names       []string
	}{{"needs", "it will never start", sp.Needs}, {"wants", "it starts without", sp.Wants}} {
		for _, name := range tie.names {
			if c.names[name] || name == sp.Name {
				continue
			}
			hint := "osctl status lists the services"
			if near := cli.Nearest(name, all); near != "" {
				hint = "did you mean " + near + "?"
			}
			add(isWarning, tie.key, fmt.Sprintf("no service %q: %s", name, tie.effect), hint)
		}
	}
}

// lineOf finds the line that sets a key; 0 when the file does not.
func lineOf(data []byte, key string) int {
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		name, _, set := strings.Cut(line, "=")
		if set && key != "" && strings.Trim(name, " \t\"'") == key {
			return n
		}
	}
	return 0
}
