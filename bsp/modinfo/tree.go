package modinfo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"resinos/bsp/kmod"
)

// A Tree is the unpacked modules of one kernel release, as they are in the package: compressed and without an index. It
// reads only the modules that are asked for and their dependencies, and keeps what it has read: some 50 MB for a board.
type Tree struct {
	dir     string
	Release string
	files   map[string]string // name -> path below dir, as in the package
	builtin []kmod.Module

	read     map[string]kmod.Module
	contents map[string][]byte // of the modules that were read
}

// OpenTree opens dir, the directory of a release such as .../usr/lib/modules/RELEASE.
func OpenTree(dir string) (*Tree, error) {
	t := &Tree{dir: dir, Release: filepath.Base(dir), files: map[string]string{}, read: map[string]kmod.Module{},
		contents: map[string][]byte{}}
	text, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("open modules of %s: %w", t.Release, err)
	}
	t.builtin = kmod.BuiltinModules(string(text))
	err = filepath.WalkDir(filepath.Join(dir, "kernel"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(d.Name(), ".ko") {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		t.files[kmod.NameOf(p)] = rel
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open modules of %s: %w", t.Release, err)
	}
	return t, nil
}

// Paths lists the modules in the form of a board's patterns: sorted, below kernel/, without .ko.
func (t *Tree) Paths() []string {
	all := make([]string, 0, len(t.files))
	for _, p := range t.files {
		all = append(all, PatternPath(p))
	}
	slices.Sort(all)
	return all
}

// Select lists the names of the modules for whose path match returns true, sorted.
func (t *Tree) Select(match func(path string) bool) []string {
	var names []string
	for name, p := range t.files {
		if match(PatternPath(p)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// PatternPath returns the path of a module in the form of a board's patterns: "fs/fat/vfat" of
// "kernel/fs/fat/vfat.ko.xz".
func PatternPath(p string) string {
	return strings.TrimSuffix(strings.TrimPrefix(plainPath(p), "kernel/"), ".ko")
}

// Builtin lists the modules that are part of the kernel.
func (t *Tree) Builtin() []kmod.Module { return t.builtin }

// Closure reads the wanted modules and everything they need, in the order of loading. Ask for all modules of an image
// at once, because a soft dependency is resolved from the wanted modules first.
func (t *Tree) Closure(ctx context.Context, wanted []string) ([]kmod.Module, error) {
	unread := wanted
	for len(unread) > 0 {
		if err := t.readAll(ctx, unread); err != nil {
			return nil, err
		}
		unread = t.neededUnread()
	}
	return kmod.Closure(t.known(), wanted)
}

// known lists the modules read so far, in a fixed order, and the built-in ones.
func (t *Tree) known() []kmod.Module {
	all := slices.Clone(t.builtin)
	for _, m := range t.read {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b kmod.Module) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// neededUnread lists names that modules refer to and whose file was not read. A soft dependency on an alias is resolved
// only by a module that was read for another reason.
func (t *Tree) neededUnread() []string {
	var names []string
	for _, m := range t.read {
		for _, list := range [][]string{m.Depends, m.Pre, m.Post} {
			for _, n := range list {
				_, file := t.files[kmod.Name(n)]
				_, read := t.read[kmod.Name(n)]
				if file && !read {
					names = append(names, kmod.Name(n))
				}
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (t *Tree) readAll(ctx context.Context, names []string) error {
	var paths, files []string
	for _, name := range names {
		if p, found := t.files[kmod.Name(name)]; found { // else built in or missing: Closure reports it
			paths = append(paths, p)
			files = append(files, filepath.Join(t.dir, p))
		}
	}
	contents, err := readFiles(ctx, files)
	if err != nil {
		return err
	}
	var faults []error
	for i, p := range paths {
		m, err := Parse(contents[i])
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", p, err))
			continue
		}
		m.Name, m.Path = kmod.NameOf(p), plainPath(p)
		t.read[m.Name] = m
		t.contents[m.Name] = contents[i]
	}
	return errors.Join(faults...)
}

// Content returns the uncompressed file of a module that Closure returned.
func (t *Tree) Content(m kmod.Module) ([]byte, error) {
	content, found := t.contents[m.Name]
	if !found {
		return nil, fmt.Errorf("find module %s: %w", m.Name, fs.ErrNotExist)
	}
	return content, nil
}

// Remove removes from the modules in dir those with these names, and what they need.
func (t *Tree) Remove(ctx context.Context, dir string, names []string) error {
	closure, err := t.Closure(ctx, names)
	if err != nil {
		return err
	}
	for _, m := range closure {
		for _, suffix := range []string{"", kmod.CompressedSuffix} {
			if err := os.Remove(filepath.Join(dir, m.Path+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
