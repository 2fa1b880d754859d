package assemble

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/pierrec/lz4/v4"
	"github.com/u-root/u-root/pkg/cpio"
)

// WriteInitramfs writes the tree to name as a cpio archive (newc) compressed with lz4. What head has, if it is not nil,
// comes before it as an archive that is not compressed, so that a change of head moves no other byte. The kernel
// unpacks one archive after the other (Documentation/driver-api/early-userspace/buffer-format.rst).
func WriteInitramfs(name string, head, tree *Tree, epoch int64) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if head != nil {
		if err := writeHead(f, head, epoch); err != nil {
			return fmt.Errorf("create initramfs: %w", err)
		}
	}
	// The kernel reads the legacy frames only (lib/decompress_unlz4.c). One goroutine writes the blocks in order.
	z := lz4.NewWriter(f)
	if err := z.Apply(lz4.LegacyOption(true), lz4.CompressionLevelOption(lz4.Level9),
		lz4.ConcurrencyOption(1)); err != nil {
		return fmt.Errorf("create initramfs: %w", err)
	}
	if err := writeCpio(z, tree, epoch); err != nil {
		return fmt.Errorf("create initramfs: %w", err)
	}
	return z.Close()
}

// writeHead fills the archive up to a sector: whatever follows an archive begins at a multiple of four bytes.
func writeHead(w io.Writer, head *Tree, epoch int64) error {
	const sector = 512
	var b bytes.Buffer
	if err := writeCpio(&b, head, epoch); err != nil {
		return err
	}
	b.Write(make([]byte, -b.Len()&(sector-1)))
	_, err := w.Write(b.Bytes())
	return err
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
