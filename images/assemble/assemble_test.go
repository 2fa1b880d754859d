package assemble

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"
	"golang.org/x/sys/unix"

	"resinos/images/layout"
	"resinos/mounts/disk"
	"resinos/mounts/ext4"
	"resinos/mounts/testenv"
)

const epoch = 1767225600

// tools skips a test that the host cannot run; CI must be able to.
func tools(t *testing.T) {
	t.Helper()
	if err := CheckTools(); err != nil {
		testenv.Lacking(t, "%v", err)
	}
}

// hostTree writes files on the host at the given moment and returns a tree over them.
func hostTree(t *testing.T, when time.Time, devices bool) *Tree {
	t.Helper()
	dir := t.TempDir()
	tree := &Tree{}
	big := bytes.Repeat([]byte("kernel "), 300000)
	for name, content := range map[string][]byte{"vmlinuz": big, "initramfs": []byte("small"),
		"dtbs/vendor/board.dtb": {1, 2, 3}} {
		host := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(host, content, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(host, when, when); err != nil {
			t.Fatal(err)
		}
		add(t, tree, Entry{Path: name, Mode: 0o644, Source: host})
	}
	add(t, tree, Entry{Path: "manifest.json", Mode: 0o600, Content: []byte("{}\n")})
	add(t, tree, Entry{Path: "empty directory", Mode: fs.ModeDir | 0o700})
	if devices {
		add(t, tree, Entry{Path: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Device: Device{5, 1}})
		add(t, tree, Entry{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777})
		add(t, tree, Entry{Path: "bin/sh", Mode: fs.ModeSymlink | 0o777, Target: "busybox"})
	}
	return tree
}

func add(t *testing.T, tree *Tree, e Entry) {
	t.Helper()
	if err := tree.Add(e); err != nil {
		t.Fatal(err)
	}
}

// TestWritersAreReproducible writes each file system twice, from trees of different age under different umasks.
func TestWritersAreReproducible(t *testing.T) {
	tools(t)
	slot := Ext4{Label: "resin-rootA", UUID: layout.GUID("x"), Size: 16 * disk.MiB, Epoch: epoch}
	state := Ext4{Label: "resin-state", UUID: layout.GUID("y"), Size: 64 * disk.MiB, Epoch: epoch, Writable: true,
		Journal: 4 * disk.MiB, ReservedPercent: 1, GrowsTo: disk.TiB, Quota: true}
	for name, c := range map[string]struct {
		devices bool
		write   func(context.Context, string, *Tree) error
	}{
		"ext4 slot":  {false, slot.Write},
		"ext4 state": {false, state.Write},
		"fat":        {false, FAT{Label: "resin-boot", Volume: 0x1234abcd, Size: 40 * disk.MiB, Epoch: epoch}.Write},
		"squashfs":   {true, Squashfs{BlockSize: 128 * 1024, Epoch: epoch}.Write},
		"initramfs": {true, func(_ context.Context, name string, tree *Tree) error {
			return WriteInitramfs(name, nil,
				tree, epoch)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var images [2][]byte
			for i, mask := range []int{0o022, 0o077} {
				old := unix.Umask(mask)
				defer unix.Umask(old)
				tree := hostTree(t, time.Unix(int64(1e9*(i+1)), 0), c.devices)
				file := filepath.Join(t.TempDir(), "image")
				if err := c.write(t.Context(), file, tree); err != nil {
					t.Fatal(err)
				}
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				images[i] = b
				// Whatever takes the host's time must show, and FAT counts in two seconds.
				now := time.Now().Unix() / 2
				testenv.WaitFor(t, "the next moment of a FAT", func() bool {
					return i > 0 ||
						time.Now().Unix()/2 != now
				})
			}
			if !bytes.Equal(images[0], images[1]) {
				t.Errorf("two builds differ, first at byte %d of %d", firstDifference(images[0], images[1]),
					len(images[0]))
			}
		})
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// TestExt4Content reads back what debugfs wrote.
func TestExt4Content(t *testing.T) {
	tools(t)
	file := filepath.Join(t.TempDir(), "image")
	x := Ext4{Label: "resin-rootA", UUID: layout.GUID("x"), Size: 16 * disk.MiB, Epoch: epoch}
	if err := x.Write(t.Context(), file, hostTree(t, time.Now(), false)); err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]string{
		"stat /manifest.json": "Mode:  0600",
		"cat /manifest.json":  "{}",
		"stat /dtbs/vendor":   "Mode:  0755",
		"stat /vmlinuz":       "crtime: 0x6955b900",
		"stat /initramfs":     "User:     0   Group:     0",
		"ls -p /":             "/empty directory/",
		"show_super_stats -h": "Filesystem UUID:          " + layout.GUID("x"),
	} {
		out, err := exec.Command("debugfs", "-R", request, file).Output()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("debugfs %q = %v %s, want %q", request, err, out, want)
		}
	}
}

// TestExt4FeaturesAreReadableByLoaders fails if mke2fs adds an incompatible feature that GRUB or U-Boot do not know. Of
// what is written on the device, which they never read, the kernel alone has to know one more.
func TestExt4FeaturesAreReadableByLoaders(t *testing.T) {
	tools(t)
	// What both GRUB 2.12 (fs/ext2.c, EXT2_DRIVER_SUPPORTED_INCOMPAT) and U-Boot 2025.01 (fs/ext4) read.
	const readable = 0x0002 /* filetype */ | 0x0040 /* extents */ | 0x0080 /* 64bit */ | 0x0200 /* flex_bg */
	for _, writable := range []bool{false, true} {
		file := filepath.Join(t.TempDir(), "image")
		x := Ext4{Label: "x", UUID: layout.GUID("x"), Size: 64 * disk.MiB, Epoch: epoch, Writable: writable,
			Journal: 4 * disk.MiB}
		if err := x.Write(t.Context(), file, &Tree{}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		readable := uint32(readable)
		if writable {
			readable |= 0x2000 // metadata_csum_seed
		}
		incompatible := uint32(b[1024+0x60]) | uint32(b[1024+0x61])<<8 | uint32(b[1024+0x62])<<16 | uint32(
			b[1024+0x63])<<24
		if more := incompatible &^ readable; more != 0 {
			t.Errorf("writable %v: incompatible features %#x beyond %#x", writable, more, readable)
		}
	}
}

// TestSuperblockHasACopy: without one, a cut between two sectors of the superblock costs the owner all that is on the
// partition.
func TestSuperblockHasACopy(t *testing.T) {
	tools(t)
	for name, x := range map[string]Ext4{
		"state":        {Size: 64 * disk.MiB, Journal: 4 * disk.MiB},
		"odd size":     {Size: 44 * disk.MiB, Journal: 4 * disk.MiB},
		"just a group": {Size: 128 * disk.MiB, Journal: 4 * disk.MiB},
		"data":         {Size: 256 * disk.MiB, Journal: 16 * disk.MiB, GrowsTo: disk.TiB, Quota: true},
	} {
		file := filepath.Join(t.TempDir(), "image")
		x.Label, x.UUID, x.Epoch, x.Writable = "x", layout.GUID("x"), epoch, true
		if err := x.Write(t.Context(), file, &Tree{}); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, found := ext4.FindCopy(f); !found {
			t.Errorf("%s has no copy of its superblock", name)
		}
	}
}

// TestNoRoom wants an error, not a truncated file, when the content is larger than the file system.
func TestNoRoom(t *testing.T) {
	tools(t)
	tree := &Tree{}
	add(t, tree, Entry{Path: "rootfs.squashfs", Mode: 0o644, Content: bytes.Repeat([]byte{1}, 50<<20)})
	for name, write := range map[string]func(context.Context, string, *Tree) error{
		"ext4": Ext4{Label: "resin-rootA", UUID: layout.GUID("x"), Size: 16 * disk.MiB, Epoch: epoch}.Write,
		"fat":  FAT{Label: "resin-boot", Size: 40 * disk.MiB, Epoch: epoch}.Write,
	} {
		err := write(t.Context(), filepath.Join(t.TempDir(), "image"), tree)
		if err == nil || !strings.Contains(err.Error(), "resin-") {
			t.Errorf("%s of 50 MiB: error = %v, want one that names the partition", name, err)
		}
	}
}

func TestTreeFaults(t *testing.T) {
	tree := &Tree{}
	add(t, tree, Entry{Path: "a/file", Mode: 0o644})
	for _, e := range []Entry{
		{Path: ""}, {Path: "/abs"}, {Path: "../up"}, {Path: "a/../b"}, {Path: "a//b"}, {Path: "a\nb"}, {Path: "a\"b"},
		{Path: "a/file"}, {Path: "a/file/below"}, {Path: "a", Mode: 0o644},
	} {
		if err := tree.Add(e); err == nil {
			t.Errorf("Add(%q) = nil, want an error", e.Path)
		}
	}
	if err := tree.Add(Entry{Path: "a", Mode: fs.ModeDir | 0o700}); err != nil {
		t.Errorf("Add of a directory with another mode = %v", err)
	}
}

func TestInitramfsCanBeRead(t *testing.T) {
	var b bytes.Buffer
	if err := writeCpio(&b, hostTree(t, time.Now(), true), epoch); err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(b.Bytes())))
	if err != nil {
		t.Fatal(err)
	}
	archive := cpio.ArchiveFromRecords(records)
	console, ok := archive.Get("dev/console")
	if !ok || console.Rmajor != 5 || console.Rminor != 1 || console.Mode&unix.S_IFMT != unix.S_IFCHR {
		t.Errorf("dev/console = %v %v", ok, console.Info)
	}
	if link, ok := archive.Get("bin/sh"); !ok || link.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("bin/sh = %v %v", ok, link.Info)
	}
	if kernel, ok := archive.Get("vmlinuz"); !ok || kernel.FileSize != 2100000 {
		t.Errorf("vmlinuz = %v %v", ok, kernel.Info)
	}
}

func TestWriteImage(t *testing.T) {
	plan, err := layout.New(layout.Request{File: "f", Partitions: []layout.Wanted{
		{Label: layout.Boot, Size: 4 * disk.MiB}, {Label: layout.RootA, Size: 8 * disk.MiB},
		{Label: layout.RootB, Size: 8 * disk.MiB},
		{Label: layout.State, Size: 4 * disk.MiB}, {Label: layout.Data, Size: 4 * disk.MiB},
	}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	slot := filepath.Join(dir, "slot")
	content := append(make([]byte, 1<<20), []byte("here")...)
	if err := os.WriteFile(slot, content, 0o644); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	if err := WriteImage(t.Context(), image, plan, map[string]string{layout.RootA: slot}); err != nil {
		t.Fatal(err)
	}
	st := unix.Stat_t{}
	if err := unix.Stat(image, &st); err != nil || disk.Bytes(st.Size) != plan.Size || st.Blocks*512 > 1<<20 {
		t.Errorf("image: %v, size %d want %d, %d KiB on disk want a few", err, st.Size, plan.Size, st.Blocks/2)
	}
	read, err := ReadTable(image)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range plan.Partitions {
		got := read.Partitions[i]
		if got.Label != p.Label || got.Start != p.Start || got.Size != p.Size || got.GUID != p.GUID {
			t.Errorf("partition %d = %+v, want %+v", i+1, got, p)
		}
	}
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, 4)
	if _, err := f.ReadAt(got, int64(plan.Partitions[1].Start)+1<<20); err != nil || string(got) != "here" {
		t.Errorf("content of slot = %q, %v", got, err)
	}
}

func TestWriteImageLeavesNothingHalf(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	plan := layout.Plan{GUID: layout.GUID("d"), Size: 16 * disk.MiB, Partitions: []layout.Partition{{Number: 1,
		Label: layout.Boot, Start: 4 * disk.MiB, Size: disk.MiB, GUID: layout.GUID("p")}}}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, 2<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := WriteImage(t.Context(), image, plan, map[string]string{layout.Boot: large}); err == nil ||
		!strings.Contains(err.Error(), "does not fit") {
		t.Errorf("WriteImage of a too large file = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := os.WriteFile(large, bytes.Repeat([]byte{1}, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := WriteImage(ctx, image, plan, map[string]string{layout.Boot: large}); !errors.Is(err, context.Canceled) {
		t.Errorf("WriteImage when cancelled = %v", err)
	}
	for _, name := range []string{image, image + ".part"} {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left behind: %v", name, err)
		}
	}
}

func TestCheckRoom(t *testing.T) {
	err := CheckRoom(filepath.Join(t.TempDir(), "image"), 1<<60)
	if err == nil || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("CheckRoom of 1 EiB = %v", err)
	}
}

func TestToolComplains(t *testing.T) {
	if _, err := (call{command: "no-such-program"}).run(t.Context()); err == nil ||
		!strings.Contains(err.Error(), "not installed") {
		t.Errorf("run of a missing program = %v", err)
	}
	if _, err := (call{command: "sh", args: []string{"-c", "echo bad >&2; exit 3"}}).run(t.Context()); err == nil ||
		!strings.Contains(err.Error(), "bad") {
		t.Errorf("run of a failing program = %v, want its last words", err)
	}
}

func TestTarReadFailureReachesCaller(t *testing.T) {
	tree := &Tree{}
	add(t, tree, Entry{Path: "gone", Mode: 0o644, Source: filepath.Join(t.TempDir(), "gone")})
	if err := tree.WriteTar(io.Discard, epoch); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("WriteTar = %v, want fs.ErrNotExist", err)
	}
	tools(t)
	if err := (Squashfs{BlockSize: 131072}).Write(t.Context(), filepath.Join(t.TempDir(), "s"), tree); !errors.Is(err,
		fs.ErrNotExist) {
		t.Errorf("Squashfs.Write = %v, want fs.ErrNotExist", err)
	}
}
