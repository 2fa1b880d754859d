package build

import (
	"fmt"
	"strings"

	"resinos/images/assemble"
	"resinos/images/layout"
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
	return fmt.Errorf("root of %s: %.1f MB, at most %.1f MB for production; leave something out in "+
		"bsp/boards/%s.toml or images/rootfs/rootfs.toml; the largest: %s",
		b.Board, float64(size)/1e6, rootLimit/1e6, b.Board, strings.Join(tree.Largest(5), ", "))
}

func (b *builder) checkHeadroom(plan layout.Plan, contents map[string]layout.Content) error {
	slot, _ := plan.Partition(layout.RootA)
	c := contents[layout.RootA]
	if percent := c.Need * 100 / slot.Size; percent > slotFillLimit {
		return fmt.Errorf("slot of %s: %d %% full, at most %d %%, or a later update may not fit; largest: %s", b.Board,
			percent, slotFillLimit, c.Largest)
	}
	return nil
}
