package build

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"resinos/bsp/boards"
	"resinos/bsp/kmod"
	"resinos/bsp/modinfo"
	"resinos/images/assemble"
	"resinos/mounts/verity"
)

// moduleTrees are the modules of the root and of the initramfs, each with its own index.
type moduleTrees struct {
	release string
	root    *assemble.Tree
	early   *assemble.Tree
}

// selectModules reads the modules that the board names, and their dependencies, from the kernel package.
func (b *builder) selectModules(ctx context.Context) error {
	release, err := b.one(b.lock.Kernel, "usr/lib/modules/*")
	if err != nil {
		return err
	}
	b.modules.release = filepath.Base(release)
	pin, _ := b.lock.Find(b.lock.Kernel)
	key := fmt.Sprintf("4 %s %q %q", pin.SHA256, b.board.Modules, b.earlyModules())
	dir, err := b.stage(ctx, "modules", key, func(ctx context.Context, dir string) error {
		return b.writeModules(ctx, release, dir)
	})
	if err != nil {
		return err
	}
	if b.modules.root, err = graft(filepath.Join(dir, "root"), b.modules.release); err != nil {
		return err
	}
	b.modules.early, err = graft(filepath.Join(dir, "early"), b.modules.release)
	return err
}

// earlyModules are the modules in the initramfs, without those that they need.
func (b *builder) earlyModules() []string {
	early := b.board.Initramfs.Modules
	if !b.Unverified {
		early = append(slices.Clone(early), verity.Module) // stage 1 loads these when it has the hash of the root
		early = append(early, verity.HashModules(b.board.Arch)...)
	}
	return early
}

func (b *builder) writeModules(ctx context.Context, release, dir string) error {
	tree, err := modinfo.OpenTree(release)
	if err != nil {
		return err
	}
	if unused := b.board.Modules.Unused(tree.Paths()); len(unused) > 0 {
		b.Progress.Note(fmt.Sprintf("%s/%s.toml: no module matches %s", boards.Directory, b.Board,
			strings.Join(unused, ", ")))
	}
	early := b.earlyModules()
	chosen := append(tree.Select(b.board.Modules.Match), early...)
	for _, t := range []struct {
		name       string
		wanted     []string
		compressed func(modulePath string) bool
	}{
		{"root", chosen, b.board.Modules.Compressed},
		{"early", early, func(string) bool { return false }}, // the initramfs is compressed as a whole
	} {
		closure, err := tree.Closure(ctx, t.wanted)
		if err != nil {
			return fmt.Errorf("%s/%s.toml: %w", boards.Directory, b.Board, err)
		}
		dir := filepath.Join(dir, t.name)
		if err := writeClosure(ctx, tree, closure, b.board.Modules.Strip, dir); err != nil {
			return err
		}
		if err := compress(ctx, dir, closure, t.compressed); err != nil {
			return err
		}
		if err := kmod.WriteIndex(dir, append(closure, tree.Builtin()...)); err != nil {
			return err
		}
	}
	// Stage 1 loads those of the board and verity.Module in every boot, before there is a root. The index keeps them.
	loaded := early[:min(len(early), len(b.board.Initramfs.Modules)+1)]
	return tree.Remove(ctx, filepath.Join(dir, "root"), loaded)
}

func writeClosure(ctx context.Context, tree *modinfo.Tree, closure []kmod.Module, strip []string, dir string) error {
	for _, m := range closure {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		ko, err := tree.Content(m)
		if err == nil {
			ko, err = modinfo.Strip(ko, strip)
		}
		if err != nil {
			return fmt.Errorf("write module %s: %w", m.Path, err)
		}
		file := filepath.Join(dir, m.Path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, ko, 0o644); err != nil {
			return err
		}
	}
	return os.MkdirAll(dir, 0o755)
}

// compress compresses the files of the modules in dir that compressed names, and gives these modules the paths of the
// compressed files. The format is that of the kernel's own build.
func compress(ctx context.Context, dir string, modules []kmod.Module, compressed func(modulePath string) bool) error {
	var files []string
	for i, m := range modules {
		if compressed(modinfo.PatternPath(m.Path)) {
			files = append(files, filepath.Join(dir, m.Path))
			modules[i].Path += kmod.CompressedSuffix
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for some := range slices.Chunk(files, 50) {
		g.Go(func() error {
			args := append([]string{"--threads=1", "--check=crc32", "--lzma2=dict=1MiB", "--"}, some...)
			if out, err := exec.CommandContext(ctx, "xz", args...).CombinedOutput(); err != nil {
				return fmt.Errorf("compress modules: xz: %w: %s", err, bytes.TrimSpace(out))
			}
			return nil
		})
	}
	return g.Wait()
}

// graft returns the files of a host directory as a tree of a release's modules.
func graft(dir, release string) (*assemble.Tree, error) {
	tree := &assemble.Tree{}
	top := path.Join("usr/lib/modules", release)
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		return tree.Add(assemble.Entry{Path: path.Join(top, filepath.ToSlash(name)), Mode: 0o644, Source: file})
	})
	return tree, err
}
