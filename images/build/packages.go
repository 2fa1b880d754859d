package build

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"resinos/bsp/apt"
	"resinos/bsp/deb"
	"resinos/bsp/lock"
)

// Unpack writes the files of the named packages of a board below dir, and creates dir if it is missing. All get mode
// 0755.
func Unpack(ctx context.Context, o Options, names []string, dir string) error {
	b, err := open(o)
	if err != nil {
		return err
	}
	var wanted []lock.Package
	for _, name := range names {
		at := slices.IndexFunc(b.lock.Packages, func(p lock.Package) bool { return p.Name == name })
		if at < 0 {
			return fmt.Errorf("find package %s in %s: it is not pinned%s", name, lock.File(b.Board), lock.Hint(b.Board))
		}
		wanted = append(wanted, b.lock.Packages[at])
	}
	if err := b.fetch(ctx, wanted); err != nil {
		return err
	}
	for _, p := range wanted {
		if err := copyFiles(b.packages[p.Name], dir); err != nil {
			return fmt.Errorf("unpack %s: %w", p.Name, err)
		}
	}
	return nil
}

// copyFiles copies the regular files and relative links below from to the directory to and replaces existing ones.
func copyFiles(from, to string) error {
	return filepath.WalkDir(from, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		target := filepath.Join(to, below)
		switch {
		case e.IsDir():
			return os.MkdirAll(target, 0o755)
		case e.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(name)
			if err != nil {
				return err
			}
			_ = os.Remove(target) // usually missing; if it cannot be removed, the next call fails
			return os.Symlink(link, target)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		_ = os.Remove(target) // the same
		return os.WriteFile(target, text, 0o755)
	})
}

// imagePackages lists the packages from which an image is built.
func (b *builder) imagePackages() []lock.Package {
	var wanted []lock.Package
	for _, p := range b.lock.Packages {
		if p.Name != b.board.Qemu.Package { // firmware of the emulator: `resin run` fetches it
			wanted = append(wanted, p)
		}
	}
	return wanted
}

// fetch fetches the wanted packages into the cache and unpacks them there.
func (b *builder) fetch(ctx context.Context, wanted []lock.Package) error {
	config := apt.For(b.board, b.Cache)
	config.Mirrors = b.Mirrors
	config.Report = func(p apt.Progress) { b.Progress.Advance(p.What, p.Done, p.Total) }
	done := b.Progress.Begin("fetch packages")
	files, err := apt.Fetch(ctx, config, wanted)
	done(false)
	if err != nil {
		return err
	}
	b.packages = make(map[string]string, len(files))
	for _, p := range wanted {
		dir, err := b.stage(ctx, "unpack-"+p.Name, p.SHA256, func(ctx context.Context, dir string) error {
			return unpack(ctx, files[p.Name], dir)
		})
		if err != nil {
			return err
		}
		b.packages[p.Name] = dir
	}
	return nil
}

// wantedFile leaves out files that no image uses.
func wantedFile(name string) bool {
	for _, prefix := range []string{"usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/lintian/",
		"usr/share/bug/"} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return true
}

// unpack writes the regular files of a package below dir. os.Root keeps even the files of a hostile archive inside dir.
func unpack(ctx context.Context, file, dir string) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() // nothing is written through it
	return deb.Extract(file, wantedFile, func(e deb.Entry, r io.Reader) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case e.Hard:
			if err := mkdirAll(root, path.Dir(e.Name)); err != nil {
				return err
			}
			return root.Link(e.Link, e.Name)
		case e.Mode&fs.ModeSymlink != 0:
			return unpackLink(root, e)
		case e.Mode.IsRegular():
			return unpackFile(root, e, r)
		}
		return nil
	})
}

func unpackFile(root *os.Root, e deb.Entry, r io.Reader) error {
	if err := mkdirAll(root, path.Dir(e.Name)); err != nil {
		return err
	}
	f, err := root.OpenFile(e.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// unpackLink writes relative links, which os.Root follows safely; absolute ones would refer to the host.
func unpackLink(root *os.Root, e deb.Entry) error {
	if path.IsAbs(e.Link) {
		return nil
	}
	if err := mkdirAll(root, path.Dir(e.Name)); err != nil {
		return err
	}
	return root.Symlink(e.Link, e.Name)
}

func mkdirAll(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	return root.MkdirAll(dir, 0o755)
}

// one returns the single file in a package that matches a pattern.
func (b *builder) one(pkg, pattern string) (string, error) {
	dir, ok := b.packages[pkg]
	if !ok {
		return "", fmt.Errorf("find package %s in %s%s", pkg, lock.File(b.Board), lock.Hint(b.Board))
	}
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("find %s in package %s: %d files match, want one", pattern, pkg, len(found))
	}
	return found[0], nil
}

// pins lists the packages in the image for the manifest.
func (b *builder) pins() []lock.Package {
	var all []lock.Package
	for _, p := range b.lock.Packages {
		if _, ok := b.packages[p.Name]; ok {
			all = append(all, p)
		}
	}
	return all
}
