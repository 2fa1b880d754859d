package fsck

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"resinos/mounts/ext4"
	"resinos/mounts/fat/fattest"
	"resinos/mounts/testenv"
)

// hostRun runs the host's program of the same name.
func hostRun(t *testing.T) Run {
	return func(ctx context.Context, argv []string) (int, string, error) {
		cmd := exec.CommandContext(ctx, testenv.NeedProgram(t, filepath.Base(argv[0])), argv[1:]...)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.Exited() {
			err = nil
		}
		return cmd.ProcessState.ExitCode(), string(out), err
	}
}

// newExt4 is a file with an ext4 of so many MiB, with one file in it. more goes to mke2fs.
func newExt4(t *testing.T, mib int64, more ...string) string {
	t.Helper()
	file := testenv.Disk(t, mib)
	makeExt4(t, file, more...)
	return file
}

func makeExt4(t *testing.T, file string, more ...string) {
	t.Helper()
	hello := filepath.Join(t.TempDir(), "hello")
	if err := os.WriteFile(hello, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "mke2fs", append([]string{"-q", "-F", "-t", "ext4", "-b", "4096", "-O",
		"metadata_csum,metadata_csum_seed"}, append(more, file)...)...)
	testenv.Run(t, "debugfs", "-w", "-R", "write "+hello+" hello", file)
}

func change(t *testing.T, file string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(b, at)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// copyAt is where the first copy of the superblock lies if groups are of mke2fs's own size.
const copyAt = 32768 * 4096

func readAt(t *testing.T, file string, at int64, n int) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	_, err = f.ReadAt(b, at)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

// changeCopy changes the first copy of the superblock, which stays whole.
func changeCopy(t *testing.T, file string, how func(b []byte)) {
	t.Helper()
	const sum = 0x3fc
	b := readAt(t, file, copyAt, 1024)
	how(b)
	binary.LittleEndian.PutUint32(b[sum:], ^crc32.Checksum(b[:sum], crc32.MakeTable(crc32.Castagnoli)))
	change(t, file, copyAt, b)
}

// copyAttached makes the first copy of the superblock one that was written while the file system was attached: with a
// journal to play back.
func copyAttached(t *testing.T, file string) {
	t.Helper()
	changeCopy(t, file, func(b []byte) { b[0x60] |= 4 })
}

// withOrphan makes the first copy of the superblock one that was written while the file of inode 12 was deleted and
// still open, and the descriptors beside it older than the bitmaps: a file is written after them.
func withOrphan(t *testing.T, file string) {
	t.Helper()
	old := readAt(t, file, copyAt, 2*4096)
	later := filepath.Join(t.TempDir(), "later")
	if err := os.WriteFile(later, bytes.Repeat([]byte{1}, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "debugfs", "-w", "-R", "write "+later+" later", file)
	change(t, file, copyAt, old)
	changeCopy(t, file, func(b []byte) { b[0xe8] = 12 })
}

func look(t *testing.T, file, kind string) Finding {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found, err := Look(f, kind)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestExt4(t *testing.T) {
	for name, tt := range map[string]struct {
		mib    int64
		damage func(t *testing.T, file string)
		why    string
		beyond bool
		more   []string
	}{
		"sound": {8, func(*testing.T, string) {}, "", false, nil},
		"marked": {8, func(t *testing.T, file string) {
			testenv.Run(t, "debugfs", "-w", "-R", "set_super_value state 2", file)
		}, "found a fault", false, nil},
		"journal to replay": {8, func(t *testing.T, file string) {
			testenv.Run(t, "debugfs", "-w", "-R",
				"feature needs_recovery", file)
		}, "", false, nil},
		"torn superblock": {160, func(t *testing.T, file string) {
			change(t, file, 1024+300,
				bytes.Repeat([]byte{7}, 200))
		}, "checksum", false, nil},
		"head wiped": {160, func(t *testing.T, file string) { change(t, file, 0, make([]byte, 8192)) }, "magic",
			false, nil},
		"no copy left": {64, func(t *testing.T, file string) { change(t, file, 0, make([]byte, 4<<20)) }, "magic",
			true, nil},
		// As the state of an image: half of it is a group, so that there is a copy. A cut between two sectors leaves
		// the old checksum.
		"torn, small groups": {64, func(t *testing.T, file string) { change(t, file, 1024+0x3fc, []byte{1, 2, 3, 4}) },
			"checksum", false, []string{"-g", "8192"}},
		"wiped, small groups": {64, func(t *testing.T, file string) { change(t, file, 0, make([]byte, 8192)) }, "magic",
			false, []string{"-g", "8192"}},
		"no inodes left": {64, func(t *testing.T, file string) { change(t, file, 0, make([]byte, 5<<20)) },
			"magic", true, []string{"-g", "8192"}},
		"torn, not unmounted": {64, func(t *testing.T, file string) {
			testenv.Run(t, "debugfs", "-w", "-R", "feature needs_recovery", file)
			change(t, file, 1024+0x3fc, []byte{1, 2, 3, 4})
		}, "checksum", false, []string{"-g", "8192"}},
		// As data after it has grown: the kernel writes the copy while the file system is attached.
		"wiped, copied while attached": {160, func(t *testing.T, file string) {
			copyAttached(t, file)
			change(t, file,
				0, make([]byte, 8192))
		}, "magic", false, nil},
		"wiped, copied while attached, quotas": {160, func(t *testing.T, file string) {
			copyAttached(t, file)
			change(t,
				file, 0, make([]byte, 8192))
		}, "magic", false,
			[]string{"-O", "metadata_csum,metadata_csum_seed,64bit,quota,project", "-E", "quotatype=prjquota"}},
		"wiped, copied while attached with an orphan, quotas": {160,
			func(t *testing.T, file string) { withOrphan(t, file); change(t, file, 0, make([]byte, 8192)) }, "magic",
			false,
			[]string{"-O", "metadata_csum,metadata_csum_seed,64bit,quota,project", "-E", "quotatype=prjquota"}},
		// Not of ours: the descriptors have no checksum, and e2fsck does all.
		"wiped, copied while attached, no checksums": {160,
			func(t *testing.T, file string) { copyAttached(t, file); change(t, file, 0, make([]byte, 8192)) }, "magic",
			false,
			[]string{"-O", "^metadata_csum,^metadata_csum_seed"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := newExt4(t, tt.mib, tt.more...)
			tt.damage(t, file)
			found := look(t, file, "ext4")
			if found.Why == "" != (tt.why == "") || !strings.Contains(found.Why, tt.why) {
				t.Fatalf("Look says %+v, want %q", found, tt.why)
			}
			if tt.why == "" {
				return
			}
			found.Gently = true
			said, err := Repair(t.Context(), hostRun(t), found, "ext4", file)
			if errors.Is(err, ErrBeyond) != tt.beyond || (err != nil) != tt.beyond {
				t.Fatalf("Repair = %q, %v", said, err)
			}
			if err == nil && look(t, file, "ext4").Why != "" {
				t.Errorf("after the repair (%s): %+v", said, look(t, file, "ext4"))
			}
			if err == nil {
				testenv.Run(t, "e2fsck", "-f", "-n", file)
				testenv.Run(t, "debugfs", "-R", "dump hello "+file+".hello", file)
				if got, err := os.ReadFile(file + ".hello"); string(got) != "hello" {
					t.Errorf("the file is %q (%v)", got, err)
				}
			}
		})
	}
}

// TestUsedDisk: what was on the disk before is not taken for files, although the inode tables have not been zeroed yet
// when the head of the file system is lost.
func TestUsedDisk(t *testing.T) {
	file := testenv.Disk(t, 320)
	change(t, file, 0, bytes.Repeat([]byte("EFI PART of an earlier system\n"), 320<<20/30))
	makeExt4(t, file, "-O", "metadata_csum,metadata_csum_seed,64bit,quota,project", "-E",
		"lazy_itable_init=1,nodiscard,quotatype=prjquota")
	copyAttached(t, file)
	change(t, file, 0, make([]byte, 8192))
	found := look(t, file, "ext4")
	found.Gently = true
	said, err := Repair(t.Context(), hostRun(t), found, "ext4", file)
	if err != nil || !strings.Contains(said, "e2fsck -p") || strings.Contains(said, "e2fsck -y") {
		t.Fatalf("Repair = %q, %v", said, err)
	}
	testenv.Run(t, "e2fsck", "-f", "-n", file)
	testenv.Run(t, "debugfs", "-R", "dump hello "+file+".hello", file)
	if got, err := os.ReadFile(file + ".hello"); string(got) != "hello" {
		t.Errorf("the file is %q (%v)", got, err)
	}
}

// TestGently: of a file system that nobody can set aside, what can be had is made of what is left.
func TestGently(t *testing.T) {
	file := newExt4(t, 64, "-g", "8192")
	change(t, file, 0, make([]byte, 5<<20))
	found := look(t, file, "ext4")
	if said, err := Repair(t.Context(), hostRun(t), found, "ext4", file); err != nil ||
		!strings.Contains(said, "e2fsck -y -f "+file) {
		t.Fatalf("Repair = %q, %v", said, err)
	}
	testenv.Run(t, "e2fsck", "-f", "-n", file)
}

func TestFAT(t *testing.T) {
	file := fattest.New(t, 40, "32")
	if found := look(t, file, "vfat"); found.Why != "" {
		t.Errorf("a new FAT: %+v", found)
	}
	change(t, file, 65, []byte{1})
	if found := look(t, file, "vfat"); found.Why == "" {
		t.Error("a dirty FAT is sound")
	}
	if _, err := Repair(t.Context(), hostRun(t), look(t, file, "vfat"), "vfat", file); err != nil {
		t.Error(err)
	}
	if found := look(t, file, "vfat"); found.Why != "" {
		t.Errorf("after the repair: %+v", found)
	}
	fattest.Copy(t, file, "config.json", "the content")
	fattest.Copy(t, file, "config.json.new", "")
	fattest.Cross(t, file, "CONFIG~1JSO", "CONFIG~1NEW")
	if found := look(t, file, "vfat"); !strings.Contains(found.Why, "share their blocks") {
		t.Errorf("a file under two names: %+v", found)
	}
	if _, err := Repair(t.Context(), hostRun(t), look(t, file, "vfat"), "vfat", file); err != nil {
		t.Error(err)
	}
	if found := look(t, file, "vfat"); found.Why != "" {
		t.Errorf("after the repair of two names: %+v", found)
	}
	testenv.Run(t, "fsck.vfat", "-n", file) // its exit code is 1 for anything to repair
	change(t, file, 0, make([]byte, 4096))
	if found := look(t, file, "vfat"); !found.Blank {
		t.Errorf("a wiped FAT: %+v", found)
	}
}

// TestRunFailsIsNotBeyond: what no program has judged must not be taken for lost.
func TestRunFailsIsNotBeyond(t *testing.T) {
	gone := func(context.Context, []string) (int, string, error) { return -1, "", os.ErrNotExist }
	if _, err := Repair(t.Context(), gone, Finding{}, "ext4", "/dev/x"); !errors.Is(err, os.ErrNotExist) ||
		errors.Is(err, ErrBeyond) {
		t.Errorf("Repair = %v", err)
	}
	var calls [][]string
	stubborn := func(_ context.Context, argv []string) (int, string, error) {
		calls = append(calls, argv)
		return 4, "UNEXPECTED INCONSISTENCY\n", nil
	}
	unknown := func(context.Context, []string) (int, string, error) {
		return 8, "get a newer version of e2fsck!\n", nil
	}
	if _, err := Repair(t.Context(), unknown, Finding{}, "ext4", "/dev/x"); err == nil || errors.Is(err, ErrBeyond) ||
		!strings.Contains(err.Error(), "newer") {
		t.Errorf("what a newer system wrote: %v", err)
	}
	if _, err := Repair(t.Context(), unknown, Finding{Blank: true}, "ext4", "/dev/x"); !errors.Is(err, ErrBeyond) {
		t.Errorf("what holds no superblock: %v", err)
	}
	for _, status := range []int{16, 32, 127, 128} { // usage, cancelled, no library: it has not even looked
		broken := func(context.Context, []string) (int, string, error) { return status, "no such file\n", nil }
		if _, err := Repair(t.Context(), broken, Finding{Blank: true}, "ext4", "/dev/x"); err == nil ||
			errors.Is(err, ErrBeyond) {
			t.Errorf("a program that ends with %d: %v", status, err)
		}
	}
	said, err := Repair(t.Context(), stubborn, Finding{}, "ext4", "/dev/x")
	if !errors.Is(err, ErrBeyond) || len(calls) != 2 || !strings.Contains(said, "exit status 4: UNEXPECTED") {
		t.Errorf("Repair = %q, %v after %v", said, err, calls)
	}
}

func TestSetAsideAndRebuild(t *testing.T) {
	node := filepath.Join(t.TempDir(), "node")
	content := make([]byte, 1<<20+100)
	copy(content[300<<10:], "secret")
	copy(content[1<<20:], "the end")
	if err := os.WriteFile(node, content, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "aside")
	for range mostAside {
		file, err := SetAside(node, dir, "resin-state")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s differs (%v)", file, err)
		}
	}
	if _, err := SetAside(node, dir, "resin-state"); err == nil || !strings.Contains(err.Error(), "remove one") {
		t.Errorf("one too many: %v", err)
	}
	template := newExt4(t, 64)
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, bytes.Repeat([]byte("rubbish "), 72<<20/8), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Rebuild(disk, template); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "e2fsck", "-f", "-n", disk)
	testenv.Run(t, "debugfs", "-R", "stat hello", disk)
	if err := Rebuild(node, template); err == nil || look(t, node, "ext4").Why == "" {
		t.Errorf("a template larger than the partition is written: %v", err)
	}
}

// cutting is a partition that loses its power at a write.
type cutting struct {
	*os.File
	left int
}

func (c *cutting) WriteAt(b []byte, at int64) (int, error) {
	if c.left--; c.left < 0 {
		return 0, errors.New("power cut")
	}
	return c.File.WriteAt(b, at)
}

// TestRebuildCut: until it is done there is no file system that a boot could take for a whole one.
func TestRebuildCut(t *testing.T) {
	from, err := os.Open(newExt4(t, 8))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	for left := 0; ; left++ {
		name := newExt4(t, 8) // it has been whole once
		to, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = fill(&cutting{to, left}, from)
		to.Close()
		if err == nil {
			if left < 3 {
				t.Errorf("done after %d writes", left)
			}
			testenv.Run(t, "e2fsck", "-f", "-n", name)
			return
		}
		if left > 0 && !look(t, name, "ext4").Blank {
			t.Fatalf("cut at write %d: a file system is there", left)
		}
		left += left / 2
	}
}

func TestParseRefusesGarbage(t *testing.T) {
	if _, err := Look(bytes.NewReader(make([]byte, 100)), "ext4"); err == nil || errors.Is(err, ext4.ErrNone) {
		t.Errorf("a partition that cannot be read: %v", err)
	}
}
