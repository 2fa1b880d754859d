// Package preload adds container images and apps to a disk image that is built. It writes resin-data again and copies
// the other partitions; it never changes what the image builder made of them. Read Run first.
package preload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"

	"resinos/bsp/slot"
	"resinos/images/appdata"
	"resinos/images/assemble"
	"resinos/images/build"
	"resinos/images/inspect"
	"resinos/images/layout"
	"resinos/mounts/disk"
)

// Options are the inputs and the output of Run.
type Options struct {
	Image  string   // a disk image that no device has booted from
	Output string   // the same, or another file
	Items  []string // archives of container images, and directories of apps
}

// Run adds container images and apps to a disk image that is built: it writes resin-data again, with what it has and
// what is added, and copies the other partitions. The same inputs give the same bytes. Output is the old image until
// the new one is complete.
func Run(ctx context.Context, o Options) error {
	report, err := inspect.Image(ctx, o.Image)
	if err != nil {
		return err
	}
	var m *slot.Manifest
	for _, s := range report.Slots {
		if m == nil {
			m = s.Manifest
		}
	}
	switch {
	case report.Booted:
		return fmt.Errorf("preload %s: a device has booted from it: build it again", o.Image)
	case m == nil:
		return fmt.Errorf("preload %s: it has no slot with a manifest: build it with resin build", o.Image)
	}
	plan, err := assemble.ReadTable(o.Image)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(o.Output), ".preload-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work) // temporary files; it does no harm if they stay
	files := map[string]string{}
	for _, part := range plan.Partitions {
		files[part.Label] = filepath.Join(work, part.Label)
		if err := assemble.ExtractPartition(ctx, o.Image, part, files[part.Label]); err != nil {
			return err
		}
	}
	tree, err := preloaded(ctx, files[layout.Data], filepath.Join(work, "data"), o.Items, m.Arch)
	if err != nil {
		return err
	}
	part, err := placeData(&plan, tree)
	if err != nil {
		return err
	}
	if err := os.Remove(files[layout.Data]); err != nil {
		return err
	}
	x := build.DataFileSystem(part.Size, m.Epoch)
	x.UUID = part.UUID
	if err := x.Write(ctx, files[layout.Data], tree); err != nil {
		return err
	}
	return assemble.WriteImage(ctx, o.Output, plan, files)
}

// preloaded is what resin-data has, as dump, with what is added.
func preloaded(ctx context.Context, data, dump string, items []string, arch string) (*assemble.Tree, error) {
	if err := os.Mkdir(dump, 0o755); err != nil {
		return nil, err
	}
	if err := assemble.DumpExt4(ctx, data, dump); err != nil {
		return nil, err
	}
	tree := &assemble.Tree{}
	added := map[string]bool{}
	var faults []error
	for _, item := range items {
		place, err := addItem(ctx, tree, added, item, arch)
		added[place] = true
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	// What was there stays, unless it is replaced: an app or an archive of the same name, as a whole.
	return tree, filepath.WalkDir(dump, func(name string, d fs.DirEntry, err error) error {
		relative, _ := filepath.Rel(dump, name) // it lies below
		switch {
		case err != nil:
			return err
		case relative == "lost+found", d.IsDir() && added[relative]:
			return filepath.SkipDir
		case relative == "." || added[relative]:
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := assemble.Entry{Path: relative, Mode: info.Mode()}
		if !d.IsDir() {
			e.Source = name
		}
		if _, there := tree.Lookup(relative); there {
			return nil // a directory above what is added
		}
		return tree.Add(e)
	})
}

// addItem adds an archive or an app, and returns where it lies.
func addItem(ctx context.Context, tree *assemble.Tree, added map[string]bool, item, arch string) (
	place string, err error) {
	info, err := os.Stat(item)
	if err != nil {
		return "", fmt.Errorf("preload %s: %w", item, err)
	}
	if info.IsDir() {
		name, err := appdata.Add(ctx, tree, item, "")
		if err != nil && added[path.Join("apps", name)] {
			err = fmt.Errorf("preload %s: app %s is given twice", item, name)
		}
		return path.Join("apps", name), err
	}
	name, err := readArchive(item, arch)
	if err != nil {
		return "", fmt.Errorf("preload %s: %w", item, err)
	}
	place = path.Join("images", odd.ReplaceAllString(name, "_")+".tar")
	if added[place] {
		return place, fmt.Errorf("preload %s: container image %s is given twice", item, name)
	}
	source, err := filepath.Abs(item)
	if err != nil {
		return "", err
	}
	return place, tree.Add(assemble.Entry{Path: place, Mode: 0o644, Source: source})
}

// odd is what is replaced of the name of a container image in the name of a file.
var odd = regexp.MustCompile(`[^a-zA-Z0-9._-]+`)

// placeData gives resin-data, the last partition, its new identifiers, and a greater size if it needs one.
func placeData(plan *layout.Plan, tree *assemble.Tree) (layout.Partition, error) {
	n := len(plan.Partitions) - 1
	if n < 0 || plan.Partitions[n].Label != layout.Data {
		return layout.Partition{}, fmt.Errorf("%s is not the last partition: build the image with resin build",
			layout.Data)
	}
	part := &plan.Partitions[n]
	digest, err := tree.Digest()
	if err != nil {
		return *part, err
	}
	used, _, err := assemble.Usage(tree)
	if err != nil {
		return *part, err
	}
	for used+build.DataFileSystem(part.Size, 0).Overhead()+headroom > part.Size {
		part.Size += 64 * disk.MiB // a multiple of layout.Alignment
	}
	part.FileSystem = layout.Ext4
	part.GUID = layout.GUID("partition", part.Label, digest)
	part.UUID = layout.GUID("file system", part.Label, digest)
	plan.Size = part.Start + part.Size + layout.Alignment
	plan.GUID = layout.GUID("disk", plan.GUID, digest)
	return *part, nil
}

// headroom is what a first boot writes before the partition grows.
const headroom = 16 * disk.MiB
