package judge

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"resinos/images/powercut/recording"
	"resinos/mounts/fat"
	"resinos/mounts/testenv"
)

// fatFiles makes a FAT with files, as the image builder does.
func fatFiles(t *testing.T, name string, files map[string]string) {
	t.Helper()
	testenv.NeedPrograms(t, "mkfs.vfat", "mcopy", "mmd", "fsck.vfat")
	sh := func(args ...string) {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	if err := os.WriteFile(name, make([]byte, 40<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	sh("mkfs.vfat", "--invariant", "-F", "32", "-S", "512", "-s", "1", name)
	for path, content := range files {
		source := filepath.Join(t.TempDir(), "source")
		if err := os.WriteFile(source, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		for i := range path {
			if i > 0 && path[i] == '/' {
				_ = exec.Command("mmd", "-D", "s", "-i", name, "::"+path[:i]).Run() // it may be there
			}
		}
		sh("mcopy", "-o", "-i", name, source, "::"+path)
	}
}

// noted is a judge of FAT whose only fact is a file.
func noted() FAT {
	return FAT{Partition: "resin-boot", Read: func(f *fat.FileSystem) (Verdict, error) {
		v := Verdict{Facts: map[string]string{}}
		if text, err := f.Read("/note"); err == nil {
			v.Facts[recording.FactNote] = string(text[:3])
		}
		return v, nil
	}}
}

// TestFATJudge judges the disks between two contents of a FAT that were written without any order. That must be found
// bad.
func TestFATJudge(t *testing.T) {
	before, after := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	fatFiles(t, before, map[string]string{"/note": strings.Repeat("old", 500)})
	fatFiles(t, after, map[string]string{"/note": strings.Repeat("new", 900)})
	old, err := os.ReadFile(before)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := os.ReadFile(after)
	if err != nil {
		t.Fatal(err)
	}
	judge := func(disk []byte) Verdict {
		file := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(file, disk, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := noted().Judge(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for name, disk := range map[string][]byte{"old": old, "new": changed} {
		if v := judge(disk); v.Bad != "" || v.Class != "clean" || v.Facts[recording.FactNote] != name {
			t.Errorf("%s: %+v", name, v)
		}
	}
	bad := 0
	for at := 0; at < len(old); at += recording.SectorSize {
		if !bytes.Equal(old[at:at+recording.SectorSize], changed[at:at+recording.SectorSize]) {
			copy(old[at:], changed[at:at+recording.SectorSize])
			if v := judge(old); v.Bad != "" {
				bad++
			}
		}
	}
	if bad == 0 {
		t.Error("no state between old and new was found bad")
	}
}

func TestExt4JudgeFindsDamage(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "e2fsck", "debugfs")
	file := filepath.Join(t.TempDir(), "ext4")
	if err := os.WriteFile(file, make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(t.TempDir(), "note")
	if err := os.WriteFile(note, []byte("  text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-g", "8192", "-O", "metadata_csum", file},
		{"debugfs", "-w", "-R", "write " + note + " note", file}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	x := Ext4{Partition: "resin-state", Texts: map[string]string{"note": "/note", "none": "/none"},
		Read: []Reader{size("resin-state")}}
	v, err := x.Judge(t.Context(), file)
	if err != nil || v.Bad != "" || v.Class != "clean" || v.Facts["note"] != "text" || len(v.Facts) != 2 ||
		v.Facts[factFileSystem("resin-state")] != fmt.Sprint(64<<20) {
		t.Errorf("a sound file system: %+v, %v", v, err)
	}
	// What a cut leaves of a file that was being truncated in place: 12 is the first inode of a file.
	if out, err := exec.Command("debugfs", "-w", "-R", "ssv last_orphan 12", file).CombinedOutput(); err != nil {
		t.Fatalf("debugfs: %v: %s", err, out)
	}
	if v, err := x.Judge(t.Context(), file); err != nil || v.Bad != "" || v.Class != "orphans" ||
		v.Facts["note"] != "text" {
		t.Errorf("a file that was being truncated: %+v, %v", v, err)
	}
	tear(t, file)
	if v, err := x.Judge(t.Context(), file); err != nil || v.Bad != "" || v.Class != "superblock restored, clean" ||
		v.Facts["note"] != "text" {
		t.Errorf("a superblock of which one sector is older: %+v, %v", v, err)
	}
	wipe(t, file)
	if v, err := x.Judge(t.Context(), file); err != nil || v.Bad != "" ||
		v.Class != "superblock and group descriptors restored, journal to play back" || v.Facts["note"] != "text" {
		t.Errorf("a lost head, and a copy that the kernel wrote while the file system was attached: %+v, %v", v, err)
	}
	if out, err := exec.Command("debugfs", "-w", "-R", "clri /note", file).CombinedOutput(); err != nil {
		t.Fatalf("debugfs: %v: %s", err, out)
	}
	if v, err := x.Judge(t.Context(), file); err != nil || v.Class != "damaged" || v.Bad == "" {
		t.Errorf("a file without an inode: %+v, %v", v, err)
	}
	if err := os.Truncate(file, 16<<20); err != nil { // and with it the copy
		t.Fatal(err)
	}
	tear(t, file)
	if v, err := x.Judge(t.Context(), file); err != nil || v.Class != "damaged" || v.Bad == "" {
		t.Errorf("no superblock is left: %+v, %v", v, err)
	}
}

// wipe takes the superblock and the descriptors of the groups away, and makes the copy one that speaks of a journal to
// play back.
func wipe(t *testing.T, file string) {
	t.Helper()
	const at, features, recover, sum = 8192 * 4096, 0x60, 4, 0x3fc
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1024)
	_, err = f.ReadAt(b, at)
	b[features] |= recover
	binary.LittleEndian.PutUint32(b[sum:], ^crc32.Checksum(b[:sum], crc32.MakeTable(crc32.Castagnoli)))
	_, err1 := f.WriteAt(b, at)
	_, err2 := f.WriteAt(make([]byte, 8192), 0)
	if err := errors.Join(err, err1, err2, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// tear changes the second sector of the superblock, in which its checksum lies.
func tear(t *testing.T, file string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{1, 2, 3, 4}, 1024+0x3fc)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// panics is a judge that falls over what it sees.
type panics struct{}

func (panics) Region() string { return "x" }

func (panics) Judge(context.Context, string) (Verdict, error) { panic("garbage") }

// TestExt4JudgeOfGrowth: what a cut leaves of a file system that was growing while it was attached, between two
// transactions of the kernel.
func TestExt4JudgeOfGrowth(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "e2fsck", "debugfs")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 64<<20); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-g", "8192", "-O", "^metadata_csum,uninit_bg", file},
		{"debugfs", "-w", "-R", "set_block_group 1 flags 0x7", file},
		{"debugfs", "-w", "-R", "set_block_group 1 checksum calc", file}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	if v, err := (Ext4{Partition: "resin-data"}).Judge(t.Context(), file); err != nil || v.Bad != "" ||
		v.Class != "growing" {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestSuiteShieldsFromJudges(t *testing.T) {
	v, err := Suite{Judges: []Judge{panics{}}}.Run(t.Context(), "x", "")
	if err != nil || !strings.Contains(v.Bad, "garbage") {
		t.Errorf("run = %+v, %v", v, err)
	}
}

func TestRules(t *testing.T) {
	facts := map[string]string{FactTable("resin-data"): "1000", factFileSystem("resin-data"): "1001"}
	if got := fits("resin-data")(facts); !strings.Contains(got, "1001") {
		t.Errorf("a file system larger than its partition: %q", got)
	}
	facts[FactTable("resin-data")] = "1001"
	if got := fits("resin-data")(facts) + fits("resin-state")(facts); got != "" {
		t.Errorf("one that fits: %q", got)
	}
}
