package assemble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"golang.org/x/sys/unix"

	"resinos/images/layout"
	"resinos/mounts/disk"
)

const sector = 512

// legacyBoot is the attribute bit "legacy BIOS bootable" of the UEFI specification (5.3.3): U-Boot looks for its boot
// script on the partitions with this bit.
const legacyBoot = 1 << 2

// WriteImage writes the disk image: the partition table of the plan, and into each partition the file that files names
// for its label. The image gets its name when it is complete, so name never is an incomplete image. Where files contain
// zeros, the image has holes. WriteImage fails before it writes if the disk is too full.
func WriteImage(ctx context.Context, name string, plan layout.Plan, files map[string]string) (err error) {
	if err := checkRoom(name, plan, files); err != nil {
		return err
	}
	aside := name + ".part"
	f, err := os.Create(aside)
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write image %s: %w", name, err), os.Remove(aside))
		}
	}()
	if err := errors.Join(fillImage(ctx, f, plan, files), f.Close()); err != nil {
		return err
	}
	return os.Rename(aside, name)
}

func fillImage(ctx context.Context, f *os.File, plan layout.Plan, files map[string]string) error {
	if err := f.Truncate(int64(plan.Size)); err != nil {
		return err
	}
	for _, part := range plan.Partitions {
		source, ok := files[part.Label]
		if !ok {
			continue
		}
		if err := copySparse(ctx, f, part, source); err != nil {
			return fmt.Errorf("fill %s: %w", part.Label, err)
		}
	}
	return table(plan).Write(f, int64(plan.Size))
}

func table(plan layout.Plan) *gpt.Table {
	t := &gpt.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector, GUID: plan.GUID, ProtectiveMBR: true}
	for _, p := range plan.Partitions {
		entry := &gpt.Partition{
			Index: p.Number, Start: uint64(p.Start / sector), End: uint64((p.Start+p.Size)/sector) - 1,
			Size: uint64(p.Size),
			Type: gpt.LinuxFilesystem, Name: p.Label, GUID: p.GUID,
		}
		if p.Label == layout.Boot {
			entry.Type, entry.Attributes = gpt.EFISystemPartition, legacyBoot
		}
		t.Partitions = append(t.Partitions, entry)
	}
	return t
}

// copySparse copies the parts of a file that contain data and leaves holes for the rest and for blocks of zeros.
func copySparse(ctx context.Context, to *os.File, part layout.Partition, source string) error {
	from, err := os.Open(source)
	if err != nil {
		return err
	}
	defer from.Close()
	if st, err := from.Stat(); err != nil || disk.Bytes(st.Size()) > part.Size {
		return errors.Join(err, fmt.Errorf("%s does not fit into %s", source, part.Size))
	}
	for start := int64(0); ; {
		data, err := unix.Seek(int(from.Fd()), start, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // no data after start
		}
		if err != nil {
			return fmt.Errorf("find data in %s: %w", source, err)
		}
		if start, err = unix.Seek(int(from.Fd()), data, unix.SEEK_HOLE); err != nil {
			return fmt.Errorf("find hole in %s: %w", source, err)
		}
		out := io.NewOffsetWriter(to, int64(part.Start)+data)
		if err := copyNonZero(ctx, out, io.NewSectionReader(from, data, start-data)); err != nil {
			return err
		}
	}
}

func copyNonZero(ctx context.Context, to io.WriteSeeker, from io.Reader) error {
	block := make([]byte, 64*1024)
	for {
		n, err := io.ReadFull(from, block)
		if n > 0 {
			if writeErr := writeOrSkip(to, block[:n]); writeErr != nil {
				return writeErr
			}
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
}

func writeOrSkip(to io.WriteSeeker, block []byte) error {
	for _, b := range block {
		if b != 0 {
			_, err := to.Write(block)
			return err
		}
	}
	_, err := to.Seek(int64(len(block)), io.SeekCurrent)
	return err
}

// checkRoom compares the space that the image needs with the free space of its directory.
func checkRoom(name string, plan layout.Plan, files map[string]string) error {
	need := disk.MiB // the tables, and the file system's own part
	for _, part := range plan.Partitions {
		if file, ok := files[part.Label]; ok {
			st := unix.Stat_t{}
			if err := unix.Stat(file, &st); err != nil {
				return fmt.Errorf("size of %s: %w", file, err)
			}
			need += disk.Bytes(st.Blocks * 512)
		}
	}
	return CheckRoom(name, need)
}

// CheckRoom fails if the file system of name has less than need free.
func CheckRoom(name string, need disk.Bytes) error {
	dir := filepath.Dir(name)
	st := unix.Statfs_t{}
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("write %s: look at %s: %w", name, dir, err)
	}
	if free := disk.Bytes(st.Bavail) * disk.Bytes(st.Bsize); free < need {
		return fmt.Errorf("write %s: needs %d MiB, %s has %d MiB free; free some space or choose another directory",
			name, need/disk.MiB+1, dir, free/disk.MiB)
	}
	return nil
}

// ExtractPartition copies a partition of an image into a file with holes.
func ExtractPartition(ctx context.Context, image string, part layout.Partition, name string) (err error) {
	from, err := os.Open(image)
	if err != nil {
		return err
	}
	defer from.Close() // only read
	to, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, to.Close()); err != nil {
			err = fmt.Errorf("copy %s of %s: %w", part.Label, image, err)
		}
	}()
	if err := to.Truncate(int64(part.Size)); err != nil {
		return err
	}
	return copyNonZero(ctx, to, io.NewSectionReader(from, int64(part.Start), int64(part.Size)))
}

// ReadTable reads the partition table of an image, but not the file systems and their UUIDs.
func ReadTable(name string) (layout.Plan, error) {
	f, err := os.Open(name)
	if err != nil {
		return layout.Plan{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return layout.Plan{}, err
	}
	t, err := gpt.Read(f, sector, sector)
	if err != nil {
		return layout.Plan{}, fmt.Errorf("read partition table of %s: %w", name, err)
	}
	plan := layout.Plan{GUID: strings.ToLower(t.GUID), Size: disk.Bytes(st.Size())}
	for _, p := range t.Partitions {
		if p.Type == gpt.Unused {
			continue
		}
		plan.Partitions = append(plan.Partitions, layout.Partition{
			Number: p.Index, Label: p.Name, GUID: strings.ToLower(p.GUID),
			Start: disk.Bytes(p.Start) * sector, Size: disk.Bytes(p.End-p.Start+1) * sector,
		})
	}
	return plan, nil
}
