// Package lock owns the package locks: the exact Debian packages of a board, by version and SHA-256.
//
// It never downloads; bsp/apt does. Read Lock first.
package lock

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"resinos/bsp/boards"
	"resinos/bsp/tables"
	"resinos/mounts/atomicfile"
	"resinos/mounts/disk"
)

// A Lock pins the packages of one board. Packages are sorted by name.
type Lock struct {
	Board    string    `toml:"board"`
	Suite    string    `toml:"suite"`
	Kernel   string    `toml:"kernel"` // the package that the board's kernel metapackage stands for
	Packages []Package `toml:"package"`
}

// A Package is one exact package file.
type Package struct {
	Name         string     `toml:"name"`
	Version      string     `toml:"version"`
	Architecture string     `toml:"architecture"` // the board's, or "all"
	SHA256       string     `toml:"sha256"`
	Size         disk.Bytes `toml:"size"`
}

// Load reads the embedded lock of the named board and checks that it has all packages of the board. The error names the
// file and the command that renews it.
func Load(name string) (Lock, error) {
	board, err := boards.Load(name)
	if err != nil {
		return Lock{}, err
	}
	file := File(name)
	text, err := boards.LockText(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Lock{}, fmt.Errorf("read %s: it does not exist%s", file, Hint(name))
	}
	if err != nil {
		return Lock{}, fmt.Errorf("read %s: %w", file, err)
	}
	l, err := Parse(file, text)
	if err == nil {
		err = l.Serves(board)
	}
	if err != nil {
		return Lock{}, fmt.Errorf("%w%s", err, Hint(name))
	}
	return l, nil
}

// File returns the path of a board's lock below the top of the source tree.
func File(board string) string { return boards.Directory + "/" + board + ".lock" }

// Hint returns the end of a message whose remedy is a new lock.
func Hint(board string) string {
	return fmt.Sprintf("\nto pin what is served now: resin bsp lock %s", board)
}

// Save writes l as the lock of its board below the top of the source tree. A reader sees either the old file or the new
// one.
func Save(tree string, l Lock) error {
	return atomicfile.Write(filepath.Join(tree, File(l.Board)), Format(l), 0o644)
}

// Parse decodes the text of a lock file; file is its name for messages. All faults are reported at once.
func Parse(file string, text []byte) (Lock, error) {
	var l Lock
	t := tables.Decode(file, text, &l)
	if err := t.Err(); err != nil {
		return Lock{}, err
	}
	for key, value := range map[string]string{"board": l.Board, "suite": l.Suite, "kernel": l.Kernel} {
		if value == "" {
			t.Fault(key, "missing key %s", key)
		}
	}
	seen := map[string]bool{}
	for _, p := range l.Packages {
		p.check(t)
		if seen[p.Name] {
			t.Fault("", "package %s is listed twice", p.Name)
		}
		seen[p.Name] = true
	}
	if l.Kernel != "" && !seen[l.Kernel] {
		t.Fault("kernel", "kernel package %s is not among the packages", l.Kernel)
	}
	if err := t.Err(); err != nil {
		return Lock{}, err
	}
	return l, nil
}

func (p Package) check(t *tables.Table) {
	name := regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]+$`)
	version := regexp.MustCompile(`^[0-9][A-Za-z0-9.+:~-]*$`)
	digest := regexp.MustCompile(`^[0-9a-f]{64}$`)
	switch {
	case !name.MatchString(p.Name):
		t.Fault("", "package %q: that is no package name", p.Name)
	case !version.MatchString(p.Version):
		t.Fault("", "package %s: version %q is none", p.Name, p.Version)
	case !name.MatchString(p.Architecture):
		t.Fault("", "package %s: architecture %q is none", p.Name, p.Architecture)
	case !digest.MatchString(p.SHA256):
		t.Fault("", "package %s: sha256 %q: want 64 hexadecimal digits", p.Name, p.SHA256)
	case p.Size <= 0:
		t.Fault("", "package %s: size %d: want more", p.Name, p.Size)
	}
}

// Serves returns an error that lists the packages of the board that l lacks.
func (l Lock) Serves(board boards.Board) error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf(File(board.Name)+": "+format, args...))
	}
	if l.Board != board.Name {
		fault("it is the lock of board %s", l.Board)
	}
	if l.Suite != board.Suite {
		fault("it pins suite %s, the board wants %s", l.Suite, board.Suite)
	}
	for _, name := range board.Packages() {
		if _, found := l.Find(name); !found && name != board.Kernel.Package {
			fault("package %s is not pinned", name)
		}
	}
	for _, p := range l.Packages {
		if p.Architecture != board.DebianArch && p.Architecture != "all" {
			fault("package %s is for %s, not %s", p.Name, p.Architecture, board.DebianArch)
		}
	}
	return errors.Join(faults...)
}

// Find returns the package with a name.
func (l Lock) Find(name string) (Package, bool) {
	i := slices.IndexFunc(l.Packages, func(p Package) bool { return p.Name == name })
	if i < 0 {
		return Package{}, false
	}
	return l.Packages[i], true
}

// Format returns the lock file: the same lock always gives the same bytes.
func Format(l Lock) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Written by \"resin bsp lock %s\".\nboard = %q\nsuite = %q\nkernel = %q\n", l.Board, l.Board,
		l.Suite, l.Kernel)
	packages := slices.Clone(l.Packages)
	slices.SortFunc(packages, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range packages {
		fmt.Fprintf(&b, "\n[[package]]\nname = %q\nversion = %q\narchitecture = %q\nsha256 = %q\nsize = %d\n",
			p.Name, p.Version, p.Architecture, p.SHA256, int64(p.Size))
	}
	return []byte(b.String())
}
