package rootfs

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"resinos/bsp/slot"
	"resinos/images/assemble"
	"resinos/mounts/packed"
)

// Split takes the files of the packed programs out of the tree of a root. It returns the rest, in which each packed
// program is an empty directory, and the tree of each packed program by its name.
func (t Table) Split(root *assemble.Tree, variant string) (*assemble.Tree, map[string]*assemble.Tree, error) {
	rest, packs := &assemble.Tree{}, map[string]*assemble.Tree{}
	for _, p := range t.Packed {
		if !carries(p.In, variant) {
			continue
		}
		packs[p.Name] = &assemble.Tree{}
	}
	for _, e := range root.Entries() {
		tree := rest
		if below, inside := strings.CutPrefix("/"+e.Path, packed.Directory+"/"); inside {
			name, file, deeper := strings.Cut(below, "/")
			switch {
			case packs[name] == nil:
				return nil, nil, fmt.Errorf("split root: /%s belongs to no packed program; name one in rootfs.toml",
					e.Path)
			case deeper:
				tree, e.Path = packs[name], file
			}
		}
		if err := tree.Add(e); err != nil {
			return nil, nil, fmt.Errorf("split root: %w", err)
		}
	}
	for name, tree := range packs {
		if len(tree.Entries()) == 0 {
			return nil, nil, fmt.Errorf("split root: the packed program %s has no file", name)
		}
		dir := assemble.Entry{Path: strings.TrimPrefix(packed.Path(name), "/"), Mode: fs.ModeDir | 0o755}
		if err := rest.Add(dir); err != nil {
			return nil, nil, fmt.Errorf("split root: %w", err)
		}
	}
	return rest, packs, nil
}

// Writer writes a file of the host.
type Writer = func(ctx context.Context, file string) error

// Stage returns a file of the host, which it may have kept from an earlier build under its digest.
type Stage = func(name, digest string, write Writer) (file string, err error)

// Finish returns the root with its packed programs as files, and what else of the slot goes with it by name: the
// recovery root, if images of this variant have one.
func (t Table) Finish(root *assemble.Tree, in Inputs, epoch int64, stage Stage) (
	finished *assemble.Tree, files map[string]string, err error) {
	files = map[string]string{}
	if slices.Contains(t.Recovery.In, in.Variant) {
		if files[slot.Recovery], err = t.recoveryRoot(root, in, epoch, stage); err != nil {
			return nil, nil, fmt.Errorf("recovery root: %w", err)
		}
	}
	finished, err = t.pack(root, in, epoch, stage)
	return finished, files, err
}

// pack replaces the files of each packed program by one file.
func (t Table) pack(root *assemble.Tree, in Inputs, epoch int64, stage Stage) (*assemble.Tree, error) {
	rest, packs, err := t.Split(root, in.Variant)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(packs)) {
		digest, err := packs[name].Digest()
		if err != nil {
			return nil, err
		}
		x := assemble.Packed(in.Arch, epoch)
		file, err := stage(name, fmt.Sprintf("%s %+v", digest, x), func(ctx context.Context, file string) error {
			return x.Write(ctx, file, packs[name])
		})
		if err != nil {
			return nil, err
		}
		path := strings.TrimPrefix(packed.Path(name)+packed.Suffix, "/")
		if err := rest.Add(assemble.Entry{Path: path, Mode: 0o644, Source: file}); err != nil {
			return nil, err
		}
	}
	return rest, nil
}
