// Package kernel owns what the builder keeps of a kernel package: the unpacked image, device trees and modules, and the
// sets of uncompressed modules that images carry, each made once and kept in the cache.
//
// It never fetches and never builds a kernel. Read Kernel first.
package kernel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"resinos/bsp/boards"
	"resinos/bsp/cache"
	"resinos/bsp/deb"
	"resinos/bsp/kmod"
	"resinos/bsp/lock"
	"resinos/bsp/modinfo"
)

// A Kernel is an unpacked kernel package.
type Kernel struct {
	Release string
	Image   string // path of the kernel image on the host
	dir     string // where the package is unpacked
	pin     lock.Package
	cache   string
	modules *modinfo.Tree
}

// Open unpacks the kernel package of a board into the cache, unless it is there. file is the package, as Fetch left it.
func Open(ctx context.Context, board boards.Board, pin lock.Package, file, cacheDir string) (*Kernel, error) {
	k := &Kernel{dir: filepath.Join(cacheDir, "kernels", "sha256-"+pin.SHA256), pin: pin, cache: cacheDir}
	err := cache.Folder(ctx, k.dir, func(dir string) error { return unpack(ctx, board, file, dir) })
	if err != nil {
		return nil, fmt.Errorf("unpack kernel of %s: %w", board.Name, err)
	}
	images, err := filepath.Glob(filepath.Join(k.dir, board.Kernel.Image))
	if err != nil || len(images) != 1 {
		return nil, fmt.Errorf("find kernel image of %s: %d files in %s match %q", board.Name, len(images), pin.Name, board.Kernel.Image)
	}
	k.Image = images[0]
	releases, err := filepath.Glob(filepath.Join(k.dir, "*", "*", "modules", "*")) // usr/lib/modules/RELEASE
	if err != nil || len(releases) != 1 {
		return nil, fmt.Errorf("find modules of %s: package %s has %d releases", board.Name, pin.Name, len(releases))
	}
	k.Release = filepath.Base(releases[0])
	if k.modules, err = modinfo.OpenTree(releases[0]); err != nil {
		return nil, err
	}
	return k, nil
}

// unpack writes what a builder may need of the package; bookworm's lib/modules becomes usr/lib/modules.
func unpack(ctx context.Context, board boards.Board, file, dir string) error {
	want := func(name string) bool {
		image, _ := path.Match(board.Kernel.Image, name) // Open reports a bad pattern
		name = strings.TrimPrefix(name, "usr/")
		return image || strings.HasPrefix(name, "lib/modules/") || strings.HasPrefix(name, "lib/linux-image-")
	}
	return deb.Extract(file, want, func(e deb.Entry, r io.Reader) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if !e.Mode.IsRegular() || e.Hard {
			return nil // the links lead to the headers, which nobody needs
		}
		name := e.Name
		if strings.HasPrefix(name, "lib/") {
			name = "usr/" + name
		}
		return writeFile(filepath.Join(dir, filepath.FromSlash(name)), r)
	})
}

func writeFile(file string, r io.Reader) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, r)
	return err
}

// DeviceTree finds a device tree by its file name, such as "bcm2837-rpi-3-b.dtb".
func (k *Kernel) DeviceTree(name string) (string, error) {
	for _, pattern := range []string{"usr/lib/linux-image-*", "usr/lib/linux-image-*/*"} {
		found, err := filepath.Glob(filepath.Join(k.dir, pattern, filepath.Base(name)))
		if err == nil && len(found) == 1 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("find device tree %s: package %s has none", name, k.pin.Name)
}

// ModulePaths lists the modules of the package as board patterns see them.
func (k *Kernel) ModulePaths() []string { return k.modules.Paths() }

// A Set is a folder of uncompressed modules with their index, which an image carries as usr/lib/modules/RELEASE.
type Set struct {
	Release string
	Dir     string
}

// RootModules makes the set that the root of a board carries: what its patterns choose, what its initramfs lists, and all
// that these need.
func (k *Kernel) RootModules(ctx context.Context, board boards.Board) (Set, error) {
	wanted := append(k.modules.Select(board.Modules.Match), board.Initramfs.Modules...)
	slices.Sort(wanted)
	return k.set(ctx, slices.Compact(wanted))
}

// InitramfsModules makes the set that stage 1 of a board loads.
func (k *Kernel) InitramfsModules(ctx context.Context, board boards.Board) (Set, error) {
	return k.set(ctx, board.Initramfs.Modules)
}

// set makes the closure of wanted. The folder's name is a digest of all that decides its content; format changes with
// this program.
func (k *Kernel) set(ctx context.Context, wanted []string) (Set, error) {
	const format = "2"
	h := sha256.Sum256([]byte(strings.Join(append([]string{format, k.pin.SHA256}, wanted...), "\n")))
	dir := filepath.Join(k.cache, "modules", "sha256-"+hex.EncodeToString(h[:]))
	err := cache.Folder(ctx, dir, func(dir string) error { return k.fill(ctx, dir, wanted) })
	if err != nil {
		return Set{}, fmt.Errorf("make modules of %s: %w", k.Release, err)
	}
	return Set{Release: k.Release, Dir: dir}, nil
}

func (k *Kernel) fill(ctx context.Context, dir string, wanted []string) error {
	closed, err := k.modules.Closure(ctx, wanted)
	if err != nil {
		return err
	}
	for _, m := range closed {
		ko, err := k.modules.Content(m)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, filepath.FromSlash(m.Path)), bytes.NewReader(ko)); err != nil {
			return err
		}
	}
	return kmod.WriteIndex(dir, append(closed, k.modules.Builtin()...))
}
