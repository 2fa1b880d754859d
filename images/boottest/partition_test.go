package boottest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"resinos/mounts/testenv"
)

// diskWith writes an image with one partition of 8 MiB.
func diskWith(t *testing.T, label string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 16 << 20
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	table := &gpt.Table{LogicalSectorSize: 512, PhysicalSectorSize: 512, ProtectiveMBR: true,
		Partitions: []*gpt.Partition{
			{Index: 1, Start: 8192, Size: 8 << 20, Type: gpt.LinuxFilesystem, Name: label},
		}}
	if err := table.Write(f, size); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestPartitions(t *testing.T) {
	image := diskWith(t, "one")
	part := filepath.Join(t.TempDir(), "part")
	want := bytes.Repeat([]byte("resin"), 1000)
	if err := os.WriteFile(part, want, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := PutPartition(image, "one", part); err != nil {
		t.Fatal(err)
	}
	if err := RenamePartition(image, "one", "two"); err != nil {
		t.Fatal(err)
	}
	if err := GetPartition(image, "one", part); err == nil {
		t.Error("a partition that was renamed is there under its old name")
	}
	if err := GetPartition(image, "two", part); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(part)
	if err != nil || len(got) != 8<<20 || !bytes.HasPrefix(got, want) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if err := os.Truncate(part, 9<<20); err != nil {
		t.Fatal(err)
	}
	if err := PutPartition(image, "two", part); err == nil {
		t.Error("a file larger than the partition was put into it")
	}
	if err := GetPartition(part, "two", filepath.Join(t.TempDir(), "x")); err == nil {
		t.Error("a file without a table has a partition")
	}
}

// TestChecksSeeDirt proves that the checks can fail.
func TestChecksSeeDirt(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "debugfs", "e2fsck", "mkfs.vfat", "fsck.vfat")
	ctx := t.Context()
	ext4 := filepath.Join(t.TempDir(), "ext4")
	fat := filepath.Join(t.TempDir(), "fat")
	for _, args := range [][]string{{"mke2fs", "-q", "-t", "ext4", ext4, "16M"}, {"mkfs.vfat", "-C", "-F", "32", fat,
		"40960"}} {
		if err := tool(ctx, args[0], args[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	if err := checkExt4(ctx, ext4); err != nil {
		t.Errorf("a new ext4: %v", err)
	}
	if err := checkFAT(ctx, fat); err != nil {
		t.Errorf("a new FAT: %v", err)
	}
	if err := tool(ctx, "debugfs", "-w", "-R", "feature needs_recovery", ext4); err != nil {
		t.Fatal(err)
	}
	if err := checkExt4(ctx, ext4); err == nil {
		t.Error("an ext4 with a journal to replay passes")
	}
	f, err := os.OpenFile(fat, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{7, 0, 0, 0}, 512+488); err != nil { // free clusters in FSInfo
		t.Fatal(err)
	}
	if err := checkFAT(ctx, fat); err != nil {
		t.Errorf("a FAT with another hint of free clusters: %v", err)
	}
	if _, err := f.WriteAt([]byte{1}, 0x41); err != nil { // the state byte of FAT32 as Linux keeps it
		t.Fatal(err)
	}
	if err := checkFAT(ctx, fat); err == nil || !strings.Contains(err.Error(), "irty") {
		t.Errorf("a FAT with the dirty bit passes: %v", err)
	}
}
