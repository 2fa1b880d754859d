package build

import (
	"fmt"
	"slices"
	"strings"

	"resinos/images/assemble"
	"resinos/images/layout"
	"resinos/mounts/disk"
)

// squashBlock is the block size of the root; docs/decisions/0010-images-squashfs-zstd.md has the measurements.
const squashBlock = 128 * 1024

// The slots of a fleet never grow. These limits stop growth long before an update would no longer fit.
const (
	rootLimit     = 45_000_000 // bytes of a production root
	slotFillLimit = 75         // percent of a slot that may be used
)

func (b *builder) checkRootSize(file string, tree *assemble.Tree) error {
	if b.Variant != "production" {
		return nil
	}
	size, err := fileSize(file)
	if err != nil || size <= rootLimit {
		return err
	}
	return fmt.Errorf("root of %s: %.1f MB, at most %.1f MB for production; leave something out in bsp/boards/%s.toml or images/rootfs/rootfs.toml; the largest: %s",
		b.Board, float64(size)/1e6, rootLimit/1e6, b.Board, strings.Join(largest(tree, 5), ", "))
}

// largest lists the largest files of a tree with their uncompressed sizes.
func largest(tree *assemble.Tree, n int) []string {
	type item struct {
		name string
		size disk.Bytes
	}
	var all []item
	for _, e := range tree.Entries() {
		if size, err := e.Size(); err == nil {
			all = append(all, item{e.Path, size})
		}
	}
	slices.SortFunc(all, func(a, b item) int { return int(b.size - a.size) })
	var names []string
	for _, i := range all[:min(n, len(all))] {
		names = append(names, fmt.Sprintf("%s (%.1f MB)", i.name, float64(i.size)/1e6))
	}
	return names
}

func (b *builder) checkHeadroom(plan layout.Plan, contents map[string]layout.Content) error {
	slot, _ := plan.Partition(layout.RootA)
	c := contents[layout.RootA]
	if percent := c.Need * 100 / slot.Size; percent > slotFillLimit {
		return fmt.Errorf("slot of %s: %d %% full, at most %d %%, or a later update may not fit; largest: %s", b.Board, percent, slotFillLimit, c.Largest)
	}
	return nil
}
