package assemble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// Squashfs describes a squashfs to write, compressed with lz4 (docs/decisions/0036-squashfs-lz4.md) unless it is Packed
// or Dense.
type Squashfs struct {
	Small     bool   // takes a hundred times as long to pack, and a fifth less space
	Packed    bool   // compressed with xz: much smaller, and slow to read (docs/decisions/0043-wifi.md)
	Dense     bool   // compressed with zstd: nearly as small as with xz, and packed in a fraction of the time
	Filter    string // of xz, for the code of one processor: x86; empty: none
	BlockSize int    // bytes that are compressed together
	Epoch     int64
}

// filters are the filters of xz for the code of an architecture, as far as mksquashfs has them.
var filters = map[string]string{"amd64": "x86"}

// Packed describes the squashfs of a packed program for an architecture, in the largest blocks there are: such a
// program is read whole, or not at all.
func Packed(arch string, epoch int64) Squashfs {
	return Squashfs{Packed: true, Filter: filters[arch], BlockSize: 1 << 20, Epoch: epoch}
}

// Write creates the squashfs file at name. mksquashfs reads the tree as a tar stream, so owners, modes, device nodes
// and the order of the data come from the tree and nothing comes from the host.
func (x Squashfs) Write(ctx context.Context, name string, tree *Tree) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	read, write := io.Pipe()
	done := make(chan error, 1) // written once by the goroutine below
	go func() {
		err := tree.WriteTar(write, x.Epoch)
		write.CloseWithError(err)
		done <- err
	}()
	epoch := strconv.FormatInt(x.Epoch, 10)
	compressor := "lz4"
	switch {
	case x.Packed:
		compressor = "xz"
	case x.Dense:
		compressor = "zstd"
	}
	args := []string{
		"-", name, "-tar", "-comp", compressor, "-b", strconv.Itoa(x.BlockSize),
		"-reproducible", "-mkfs-time", epoch, "-all-time", epoch, "-root-mode", "0755", "-root-uid", "0", "-root-gid",
		"0",
		"-no-xattrs", "-no-progress", "-quiet",
	}
	if !x.Packed {
		// The ends of files are blocks of their own: 30 kB more, and the kernel keeps no cache for shared ones (384
		// kB).
		args = append(args, "-no-fragments")
	}
	switch {
	case x.Dense:
		args = append(args, "-Xcompression-level", "9")
	case x.Small && !x.Packed:
		args = append(args, "-Xhc")
	}
	if x.Filter != "" {
		args = append(args, "-Xbcj", x.Filter)
	}
	_, err := call{command: "mksquashfs", args: args, epoch: x.Epoch, stdin: read}.run(ctx)
	read.CloseWithError(errors.New("mksquashfs has ended")) // so that the writer ends too
	if tarErr := <-done; err != nil || tarErr != nil {
		return fmt.Errorf("create squashfs %s: %w", name, errors.Join(err, tarErr))
	}
	return nil
}
