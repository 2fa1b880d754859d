package boottest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// partitionRange finds a partition of a raw image by its label.
func partitionRange(image *os.File, label string) (start, size int64, err error) {
	table, err := gpt.Read(image, 512, 512)
	if err != nil {
		return 0, 0, fmt.Errorf("read partitions of %s: %w", image.Name(), err)
	}
	for _, p := range table.Partitions {
		if p.Name == label {
			return int64(p.Start) * 512, int64(p.End-p.Start+1) * 512, nil
		}
	}
	return 0, 0, fmt.Errorf("find partition %s in %s: no such label", label, image.Name())
}

// GetPartition copies a partition of a raw image into a file of its own.
func GetPartition(image, label, file string) error {
	from, err := os.Open(image)
	if err != nil {
		return fmt.Errorf("open image: %w", err)
	}
	defer from.Close() // read only: closing cannot lose anything
	start, size, err := partitionRange(from, label)
	if err != nil {
		return err
	}
	to, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("create partition file: %w", err)
	}
	return errors.Join(copySparse(to, io.NewSectionReader(from, start, size)), to.Truncate(size), to.Close())
}

// PutPartition copies a file into a partition of a raw image; a shorter file leaves the rest as it was.
func PutPartition(image, label, file string) error {
	to, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open image: %w", err)
	}
	err = putInto(to, label, file)
	return errors.Join(err, to.Close())
}

func putInto(to *os.File, label, file string) error {
	start, size, err := partitionRange(to, label)
	if err != nil {
		return err
	}
	from, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("open partition file: %w", err)
	}
	defer from.Close() // read only: closing cannot lose anything
	if stat, err := from.Stat(); err != nil || stat.Size() > size {
		return fmt.Errorf("write %s to partition %s of %d bytes: it is larger (%v)", file, label, size, err)
	}
	_, err = io.Copy(io.NewOffsetWriter(to, start), from)
	return err
}

// RenamePartition changes the label of a partition of a raw image.
func RenamePartition(image, label, name string) error {
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open image: %w", err)
	}
	return errors.Join(renameIn(f, label, name), f.Close())
}

func renameIn(f *os.File, label, name string) error {
	table, err := gpt.Read(f, 512, 512)
	if err != nil {
		return fmt.Errorf("read partitions of %s: %w", f.Name(), err)
	}
	stat, err := f.Stat()
	if err != nil {
		return err
	}
	for _, p := range table.Partitions {
		if p.Name == label {
			p.Name = name
			return table.Write(f, stat.Size())
		}
	}
	return fmt.Errorf("find partition %s in %s: no such label", label, f.Name())
}

// copySparse copies and leaves holes where there are only zeros.
func copySparse(to *os.File, from io.Reader) error {
	block, zeros := make([]byte, 1<<20), make([]byte, 1<<20)
	for offset := int64(0); ; {
		n, err := io.ReadFull(from, block)
		if n > 0 && !bytes.Equal(block[:n], zeros[:n]) {
			if _, err := to.WriteAt(block[:n], offset); err != nil {
				return err
			}
		}
		offset += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Flatten writes any image that qemu-img knows as a raw one.
func Flatten(ctx context.Context, image, raw string) error {
	return tool(ctx, "qemu-img", "convert", "-O", "raw", image, raw)
}

// CheckFileSystems checks that the file systems of a raw image are as a powered-off device leaves them: nothing to
// repair, nothing to replay. It writes copies of the partitions to directory.
func CheckFileSystems(ctx context.Context, image, dir string) error {
	var faults []error
	for _, label := range []string{"resin-boot", "resin-rootA", "resin-state", "resin-data"} {
		file := filepath.Join(dir, label+".part")
		if err := GetPartition(image, label, file); err != nil {
			return err
		}
		check := checkExt4
		if label == "resin-boot" {
			check = checkFAT
		}
		if err := check(ctx, file); err != nil {
			faults = append(faults, fmt.Errorf("check %s: %w", label, err))
		}
	}
	return errors.Join(faults...)
}

func checkExt4(ctx context.Context, file string) error {
	if err := tool(ctx, "e2fsck", "-f", "-n", file); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "dumpe2fs", "-h", file).Output()
	if err != nil {
		return fmt.Errorf("dumpe2fs: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if key == "Filesystem state" && value != "clean" || key == "Filesystem features" &&
			strings.Contains(value, "needs_recovery") {
			return fmt.Errorf("it was not unmounted: %s: %s", key, value)
		}
	}
	return nil
}

// checkFAT counts the dirty bit as a fault, which fsck.vfat only mentions. A wrong count of free clusters is not a
// fault: it is a hint (Microsoft FAT specification, FSInfo), and U-Boot does not update it when it writes its
// ubootefi.var.
func checkFAT(ctx context.Context, file string) error {
	out, err := exec.CommandContext(ctx, "fsck.vfat", "-n", file).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("fsck.vfat: %w", err)
	}
	if faults := fatFaults(string(out), file); len(faults) > 0 {
		return fmt.Errorf("fsck.vfat: %s", strings.Join(faults, "; "))
	}
	return nil
}

// fatFaults lists the complaints of fsck.vfat (dosfstools 4.2), without its header and the hint.
func fatFaults(said, file string) []string {
	var faults []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		switch {
		case line == "", line == "Auto-correcting.", line == "Leaving filesystem unchanged.":
		case strings.HasPrefix(line, "fsck.fat "), strings.HasPrefix(line, file+": "):
		case strings.HasPrefix(line, "Free cluster summary wrong"):
		default:
			faults = append(faults, line)
		}
	}
	return faults
}

func tool(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
