package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"resinos/images/assemble"
	"resinos/mounts/packed"
	"resinos/services/shipped"
)

// Recovery says how the recovery root differs from the root (docs/decisions/0059-recovery-root.md).
type Recovery struct {
	In       []string `toml:"variants"`
	Services []string `toml:"services"` // those that it has
	Without  []string `toml:"without"`  // patterns (path.Match) of what it lacks; one that ends in / is a directory
	Links    []Link   `toml:"link"`     // what only it has
	Limit    int64    `toml:"limit"`    // bytes of its file
}

// recoveryServices is the variant of the service files of a recovery root.
const recoveryServices = "recovery"

// servicesDirectory is where a root has its service files.
const servicesDirectory = "usr/lib/resinos/services/"

// recoveryRoot returns the file of the recovery root that goes with a root, whose packed programs are not packed yet.
func (t Table) recoveryRoot(root *assemble.Tree, in Inputs, epoch int64, stage Stage) (string, error) {
	tree, err := t.Recovery.tree(root)
	if err != nil {
		return "", err
	}
	t.Packed = slices.DeleteFunc(slices.Clone(t.Packed), func(p Packed) bool {
		_, has := tree.Lookup(strings.TrimPrefix(packed.Path(p.Name), "/"))
		return !has
	})
	if tree, err = t.pack(tree, in, epoch, stage); err != nil {
		return "", err
	}
	digest, err := tree.Digest()
	if err != nil {
		return "", err
	}
	x := assemble.Squashfs{Dense: true, BlockSize: 128 << 10, Epoch: epoch}
	file, err := stage("recovery", fmt.Sprintf("%s %+v", digest, x), func(ctx context.Context, file string) error {
		return x.Write(ctx, file, tree)
	})
	if err != nil {
		return "", err
	}
	info, err := os.Stat(file)
	if err == nil && info.Size() > t.Recovery.Limit {
		err = fmt.Errorf("%d bytes, at most %d; leave something out below [recovery] in rootfs.toml",
			info.Size(), t.Recovery.Limit)
	}
	return file, err
}

// tree returns the content of the recovery root that goes with a root.
func (r Recovery) tree(root *assemble.Tree) (*assemble.Tree, error) {
	tree := &assemble.Tree{}
	var faults []error
	for _, e := range root.Entries() {
		if !r.lacks(e.Path) && !strings.HasPrefix(e.Path, servicesDirectory) {
			faults = append(faults, tree.Add(e))
		}
	}
	for _, l := range r.Links {
		link := laying{tree: tree}
		link.link(l.Path, l.Target)
		faults = append(faults, link.faults...)
	}
	files, err := shipped.Variant(recoveryServices)
	faults = append(faults, err)
	missing := slices.Clone(r.Services)
	for _, f := range files {
		if i := slices.Index(missing, f.Spec.Name); i >= 0 {
			missing = slices.Delete(missing, i, i+1)
			file := assemble.Entry{Path: servicesDirectory + f.Name, Mode: 0o644, Content: f.Data}
			faults = append(faults, tree.Add(file))
		}
	}
	if len(missing) > 0 {
		faults = append(faults,
			fmt.Errorf("rootfs.toml: [recovery]: no service is called %s", strings.Join(missing, ", ")))
	}
	return tree, errors.Join(faults...)
}

// lacks reports whether a recovery root is without a file of the root.
func (r Recovery) lacks(name string) bool {
	return slices.ContainsFunc(r.Without, func(pattern string) bool { return matches(pattern, name) })
}

func matches(pattern, name string) bool {
	if dir, is := strings.CutSuffix(pattern, "/"); is {
		return name == dir || strings.HasPrefix(name, pattern)
	}
	match, err := path.Match(pattern, name)
	return err == nil && match
}
