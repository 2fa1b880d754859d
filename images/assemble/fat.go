package assemble

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"resinos/mounts/disk"
)

// FAT describes a FAT32 file system to write.
type FAT struct {
	Label  string
	Volume uint32 // volume number
	Size   disk.Bytes
	Epoch  int64
}

// Write creates a file at name that contains the file system with the tree: directories and regular files only.
//
// dosfstools and mtools do the work: go-diskfs takes its times from the environment of the whole process, and always
// writes volume number 0 in its reproducible mode.
func (x FAT) Write(ctx context.Context, name string, tree *Tree) error {
	if err := makeSparse(name, x.Size); err != nil {
		return fmt.Errorf("create FAT %s: %w", x.Label, err)
	}
	args := []string{"--invariant", "-F", "32", "-S", "512", "-s", "1", "-n", x.Label, "-i",
		fmt.Sprintf("%08x", x.Volume), name}
	if err := x.tool(ctx, "mkfs.vfat", args...); err != nil {
		return fmt.Errorf("create FAT %s: %w", x.Label, err)
	}
	work, err := os.MkdirTemp(filepath.Dir(name), "fat-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work) // temporary files; it does no harm if they stay
	for i, e := range tree.Entries() {
		if err := x.add(ctx, name, e, filepath.Join(work, strconv.Itoa(i))); err != nil {
			return fmt.Errorf("add %s to FAT %s (%s): %w", e.Path, x.Label, x.Size, err)
		}
	}
	return nil
}

func (x FAT) add(ctx context.Context, image string, e Entry, spare string) error {
	switch {
	case e.Mode.IsDir():
		return x.tool(ctx, "mmd", "-i", image, "::"+e.Path)
	case e.Mode.IsRegular():
		source, err := hostFile(e, spare)
		if err != nil {
			return err
		}
		return x.tool(ctx, "mcopy", "-i", image, source, "::"+e.Path)
	}
	return fmt.Errorf("mode %v does not exist on FAT", e.Mode)
}

func (x FAT) tool(ctx context.Context, command string, args ...string) error {
	// mtools and mkfs.vfat 4.2 take all times from here.
	env := []string{"SOURCE_DATE_EPOCH=" + strconv.FormatInt(x.Epoch, 10)}
	text, err := call{command: command, args: args, epoch: x.Epoch, env: env}.run(ctx)
	if err == nil && strings.Contains(text, "Disk full") {
		err = fmt.Errorf("no space left: %s", lastLines(text, 1))
	}
	return err
}

// Overhead is the part of the size that the file system itself uses: two tables of four bytes for each cluster of a
// sector.
func (x FAT) Overhead() disk.Bytes { return x.Size/512*8 + 32*disk.KiB }
