package assemble

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

// WriteInitramfs writes the tree to name as a cpio archive (newc) compressed with zstd.
func WriteInitramfs(name string, tree *Tree, epoch int64) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// One encoder goroutine: the split into blocks must not depend on the number of processors. The kernel's
	// decoder takes windows of up to 128 MiB (lib/decompress_unzstd.c), this level uses 8.
	z, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("create initramfs: %w", err)
	}
	if err := writeCpio(z, tree, epoch); err != nil {
		return fmt.Errorf("create initramfs: %w", err)
	}
	return z.Close()
}

func writeCpio(w io.Writer, tree *Tree, epoch int64) error {
	out := cpio.NewDedupWriter(cpio.Newc.Writer(w))
	for i, e := range tree.Entries() {
		r, err := cpioRecord(e, uint64(i+1), uint64(epoch))
		if err != nil {
			return fmt.Errorf("add %s: %w", e.Path, err)
		}
		if err := out.WriteRecord(r); err != nil {
			return fmt.Errorf("add %s: %w", e.Path, err)
		}
	}
	return cpio.WriteTrailer(out)
}

func cpioRecord(e Entry, inode, epoch uint64) (cpio.Record, error) {
	info := cpio.Info{Name: e.Path, Mode: uint64(unixMode(e.Mode)), Ino: inode, NLink: 1, MTime: epoch}
	switch {
	case e.Mode&fs.ModeSymlink != 0:
		return cpio.StaticRecord([]byte(e.Target), info), nil
	case e.Mode&fs.ModeCharDevice != 0:
		info.Rmajor, info.Rminor = uint64(e.Device.Major), uint64(e.Device.Minor)
	case e.Mode.IsRegular():
		r, err := e.Open()
		if err != nil {
			return cpio.Record{}, err
		}
		defer r.Close()
		content, err := io.ReadAll(r)
		if err != nil {
			return cpio.Record{}, err
		}
		info.FileSize = uint64(len(content))
		return cpio.Record{ReaderAt: bytes.NewReader(content), Info: info}, nil
	}
	return cpio.StaticRecord(nil, info), nil
}
