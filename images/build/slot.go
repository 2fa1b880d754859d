package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"resinos/bsp/bootfiles"
	"resinos/bsp/slot"
	"resinos/images/assemble"
	"resinos/images/layout"
	"resinos/images/ociimage"
	"resinos/images/rootfs"
	"resinos/mounts/fingerprint"
	"resinos/mounts/verity"
)

// slotTree builds the squashfs and the initramfs and returns the content of the slot.
func (b *builder) slotTree(ctx context.Context) (*assemble.Tree, slot.Manifest, error) {
	services, err := b.services()
	if err != nil {
		return nil, slot.Manifest{}, err
	}
	firmware, err := b.firmware()
	if err != nil {
		return nil, slot.Manifest{}, err
	}
	blanks, err := b.blanks(ctx)
	if err != nil {
		return nil, slot.Manifest{}, err
	}
	in := rootfs.Inputs{
		Board: b.Board, Arch: b.board.Arch, Variant: b.Variant, Version: b.Version, Built: b.built(),
		Programs: b.programs(), Packages: b.packages,
		Trust: b.Trust.Encode(), Without: b.Without, Hardware: b.board.Hardware,
		Services: services, Modules: b.modules.root, Firmware: firmware, Known: ociimage.HasApplet, Blanks: blanks,
	}
	kernel, kernelErr := b.one(b.lock.Kernel, b.board.Kernel.Image)
	rootTree, rootErr := b.table.Root(in)
	earlyTree, earlyErr := b.table.Initramfs(in, b.modules.early, b.board.Initramfs.Modules)
	if err := errors.Join(kernelErr, rootErr, earlyErr, b.addBootFiles(ctx, rootTree)); err != nil {
		return nil, slot.Manifest{}, err
	}
	rootTree, files, err := b.table.Finish(rootTree, in, b.epoch,
		func(name, digest string, w rootfs.Writer) (string, error) {
			return b.file(ctx, "packed-"+name, name+".squashfs", digest, w)
		})
	if err != nil {
		return nil, slot.Manifest{}, err
	}
	if b.loader, err = loaderVersion(rootTree); err != nil {
		return nil, slot.Manifest{}, err
	}
	if err := addFingerprint(rootTree, "root"); err != nil {
		return nil, slot.Manifest{}, err
	}
	root, hash, err := b.root(ctx, rootTree)
	if err != nil {
		return nil, slot.Manifest{}, err
	}
	early, err := b.initramfs(ctx, hash, earlyTree)
	if err != nil {
		return nil, slot.Manifest{}, err
	}
	files[slot.Kernel], files[slot.Initramfs], files[slot.Root] = kernel, early, root
	tree, err := b.slotFiles(files)
	if err != nil {
		return nil, slot.Manifest{}, err
	}
	if err := b.deviceTrees(tree); err != nil {
		return nil, slot.Manifest{}, err
	}
	m, err := b.manifest(tree)
	if err != nil {
		return nil, m, err
	}
	m.Root = hash.Hash
	text, err := m.Encode()
	if err != nil {
		return nil, m, err
	}
	return tree, m, tree.Add(assemble.Entry{Path: slot.ManifestFile, Mode: 0o644, Content: text})
}

// slotFiles lays the files of a slot out.
func (b *builder) slotFiles(files map[string]string) (tree *assemble.Tree, err error) {
	if b.Variant == "development" {
		if files[slot.Shell], err = b.one("busybox-static", "usr/bin/busybox"); err != nil {
			return nil, err
		}
	}
	tree = &assemble.Tree{}
	for name, source := range files {
		if err := tree.Add(assemble.Entry{Path: name, Mode: 0o644, Source: source}); err != nil {
			return nil, err
		}
	}
	return tree, nil
}

// addBootFiles adds the files of the boot partition that belong to the version: a device that confirms it brings its
// boot partition to them.
func (b *builder) addBootFiles(ctx context.Context, root *assemble.Tree) error {
	boot, err := b.bootTree(ctx, b.version())
	if err != nil {
		return err
	}
	place, _ := fingerprint.Find("boot") // addFingerprint has found it too
	top := strings.TrimPrefix(bootfiles.Source, "/")
	var faults []error
	for _, e := range boot.Entries() {
		if e.Mode.IsRegular() && (e.Path == fingerprint.Name || !place.Leaves(e.Path)) {
			e.Path = path.Join(top, e.Path)
			faults = append(faults, root.Add(e))
		}
	}
	return errors.Join(faults...)
}

// blanks builds the empty file systems that a device writes over a state partition beyond repair, and over a data
// partition when its owner asks for that.
func (b *builder) blanks(ctx context.Context) (map[string]string, error) {
	state, err := b.stateTree(ctx, slot.Manifest{})
	data := &assemble.Tree{}
	if err := errors.Join(err, unmarked(data)); err != nil {
		return nil, err
	}
	first, err := b.blank(ctx, "state", layout.State, state)
	if err != nil {
		return nil, err
	}
	second, err := b.blank(ctx, "data", layout.Data, data)
	return map[string]string{"state": first, "data": second}, err
}

// blank builds an empty file system as large as the board's partition in an image.
func (b *builder) blank(ctx context.Context, name, label string, tree *assemble.Tree) (string, error) {
	x := b.ext4(label, 0)
	for _, p := range b.board.Disk.Partitions {
		if p.Label == label {
			x.Size = p.Size
		}
	}
	x.UUID = layout.GUID("blank", label)
	digest, err := tree.Digest()
	if err != nil {
		return "", err
	}
	return b.file(ctx, "blank-"+name, name+".ext4", digest+" "+x.Key(), func(ctx context.Context, name string) error {
		return x.Write(ctx, name, tree)
	})
}

// root returns the file of the root with its hash tree, and what the tree is checked with. Without a tree that is the
// zero value.
func (b *builder) root(ctx context.Context, tree *assemble.Tree) (file string, hash verity.Root, err error) {
	digest, err := tree.Digest()
	if err != nil {
		return "", hash, err
	}
	x := assemble.Squashfs{Small: b.Variant == "production", BlockSize: squashBlock, Epoch: b.epoch}
	key := fmt.Sprintf("%s %+v %v", digest, x, !b.Unverified)
	dir, err := b.stage(ctx, "rootfs", key, func(ctx context.Context, dir string) error {
		name := filepath.Join(dir, slot.Root)
		if err := x.Write(ctx, name, tree); err != nil || b.Unverified {
			return err
		}
		r, err := appendHashTree(name)
		return errors.Join(err, os.WriteFile(filepath.Join(dir, slot.RootHash), []byte(r.String()), 0o644))
	})
	if err != nil {
		return "", hash, err
	}
	if !b.Unverified {
		text, err := os.ReadFile(filepath.Join(dir, slot.RootHash))
		if err != nil {
			return "", hash, err
		}
		if hash, err = verity.Parse(string(text)); err != nil {
			return "", hash, err
		}
	}
	file = filepath.Join(dir, slot.Root)
	return file, hash, b.checkRootSize(file, tree)
}

func appendHashTree(name string) (r verity.Root, err error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return r, err
	}
	return verity.Append(f, st.Size())
}

// initramfs returns the file of the initramfs, which has the hash of the root.
func (b *builder) initramfs(ctx context.Context, hash verity.Root, tree *assemble.Tree) (string, error) {
	digest, err := tree.Digest()
	if err != nil {
		return "", err
	}
	var head *assemble.Tree
	if hash.Blocks > 0 {
		head = &assemble.Tree{}
		entry := assemble.Entry{Path: slot.RootHash, Mode: 0o644, Content: []byte(hash.String())}
		if err := head.Add(entry); err != nil {
			return "", err
		}
	}
	key := fmt.Sprintf("%s %d %s", digest, b.epoch, hash.Hash)
	return b.file(ctx, "initramfs", slot.Initramfs, key, func(_ context.Context, name string) error {
		return assemble.WriteInitramfs(name, head, tree, b.epoch)
	})
}

// deviceTrees adds the board's device trees below dtbs/, from wherever the kernel package has them.
func (b *builder) deviceTrees(tree *assemble.Tree) error {
	var faults []error
	for _, name := range b.board.Kernel.DeviceTrees {
		found := ""
		err := filepath.WalkDir(filepath.Join(b.packages[b.lock.Kernel], "usr/lib"),
			func(file string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() && strings.HasSuffix(file, "/"+name) {
					found = file
					return fs.SkipAll
				}
				return err
			})
		if err != nil || found == "" {
			faults = append(faults, errors.Join(fmt.Errorf("find device tree %s in package %s: not there", name,
				b.lock.Kernel), err))
			continue
		}
		faults = append(faults, tree.Add(assemble.Entry{Path: slot.DeviceTrees + "/" + filepath.Base(name), Mode: 0o644,
			Source: found}))
	}
	return errors.Join(faults...)
}

// firmware returns the files of the firmware packages that the board's patterns select.
func (b *builder) firmware() (*assemble.Tree, error) {
	tree := &assemble.Tree{}
	chosen := b.board.Modules // the same patterns, for other files
	chosen.Include, chosen.Exclude = b.board.Firmware.Include, nil
	for _, name := range b.board.Firmware.Packages {
		for _, top := range []string{"usr/lib/firmware", "lib/firmware"} {
			dir := filepath.Join(b.packages[name], top)
			err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				rel, err := filepath.Rel(dir, file)
				if err != nil || !chosen.Match(filepath.ToSlash(rel)) {
					return err
				}
				return tree.Add(assemble.Entry{Path: "usr/lib/firmware/" + filepath.ToSlash(rel), Mode: 0o644,
					Source: file})
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return tree, nil
}

// version is the manifest without files and packages.
func (b *builder) version() slot.Manifest {
	return slot.Manifest{
		Format: slot.ManifestFormat, Version: b.Version, Board: b.Board, Variant: b.Variant, Arch: b.board.Arch,
		Kernel: b.modules.release, Epoch: b.epoch,
	}
}

func (b *builder) manifest(tree *assemble.Tree) (slot.Manifest, error) {
	m := b.version()
	for _, e := range tree.Entries() {
		if !e.Mode.IsRegular() {
			continue
		}
		f, err := describe(e)
		if err != nil {
			return m, err
		}
		m.Files = append(m.Files, f)
	}
	for _, p := range b.pins() {
		m.Packages = append(m.Packages, slot.Package{Name: p.Name, Version: p.Version, SHA256: p.SHA256})
	}
	return m, nil
}

func describe(e assemble.Entry) (slot.File, error) {
	r, err := e.Open()
	if err != nil {
		return slot.File{}, err
	}
	defer r.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, r)
	return slot.File{Name: e.Path, Size: size, SHA256: hex.EncodeToString(sum.Sum(nil))}, err
}

func fileSize(name string) (int64, error) {
	st, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
