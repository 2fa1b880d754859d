package grow

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	diskgpt "github.com/diskfs/go-diskfs/partition/gpt"
	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/gpt"
	"resinos/mounts/testenv"
)

const mib = 1 << 20

// The identifiers of an image: of version 8.
const (
	imageUUID   = "03020100-0504-8706-8809-0a0b0c0d0e0f"
	imageNumber = "03020100"
)

// bench is an image of 128 MiB on a larger disk, whose partitions are attached as on a device.
type bench struct {
	t      *testing.T
	file   string
	disk   string // kernel name
	dev    string // directory of its nodes
	dir    string
	sector int
}

func newBench(t *testing.T, sector string, size int64, damage func(f *os.File)) *bench {
	t.Helper()
	testenv.NeedRoot(t, "loop devices and mounts")
	b := &bench{t: t, file: filepath.Join(t.TempDir(), "disk.img"), dir: t.TempDir()}
	f, err := os.Create(b.file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(128 * mib); err != nil {
		t.Fatal(err)
	}
	bytes := map[string]int{"512": 512, "4096": 4096}[sector]
	b.sector = bytes
	table := &diskgpt.Table{LogicalSectorSize: bytes, PhysicalSectorSize: bytes, ProtectiveMBR: true}
	for n, p := range []struct {
		label       string
		start, size int
	}{{disk.Boot, 4, 40}, {disk.State, 44, 16}, {disk.Data, 60, 64}} {
		table.Partitions = append(table.Partitions, &diskgpt.Partition{
			Index: n + 1, Start: uint64(p.start * mib / bytes), End: uint64((p.start+p.size)*mib/bytes) - 1,
			Size: uint64(p.size * mib),
			Type: diskgpt.LinuxFilesystem, Name: p.label,
		})
		part := filepath.Join(t.TempDir(), p.label)
		if err := errors.Join(os.WriteFile(part, nil, 0o600), os.Truncate(part, int64(p.size)*mib)); err != nil {
			t.Fatal(err)
		}
		if p.label == disk.Boot {
			testenv.Run(t, "mkfs.vfat", "-F", "32", "-S", sector, "-s", "1", "-i", imageNumber, part)
		} else {
			testenv.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "2", "-U", imageUUID, "-O",
				"metadata_csum,metadata_csum_seed,64bit", "-E", "resize=268435456", part)
		}
		text, err := os.ReadFile(part)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(text, int64(p.start)*mib); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Write(f, 128*mib); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	damage(f)
	loop := testenv.Run(t, "losetup", "--find", "--show", "--sector-size", sector, b.file)
	t.Cleanup(func() { testenv.Run(t, "losetup", "--detach", loop) }) // after the partitions are gone
	b.disk = filepath.Base(loop)
	b.dev = t.TempDir()
	b.makeNode(b.disk)
	b.removePartitions() // the kernel keeps those of an earlier user of the device
	b.addPartitions()
	t.Cleanup(b.removePartitions)
	for _, suffix := range []string{"p1", "p2", "p3"} {
		b.makeNode(b.disk + suffix)
	}
	return b
}

// addPartitions does what a kernel that reads GPTs does by itself.
func (b *bench) addPartitions() {
	b.t.Helper()
	f, err := os.Open(filepath.Join(b.dev, b.disk))
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		b.t.Fatal(err)
	}
	table, err := gpt.Read(f, b.sector, gpt.LBA(size/int64(b.sector)))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range table.Entries {
		p := unix.BlkpgPartition{Start: int64(e.First) * int64(b.sector),
			Length: int64(e.Last-e.First+1) * int64(b.sector), Pno: int32(e.Number)}
		if err := partition(f, unix.BLKPG_ADD_PARTITION, p); err != nil && !errors.Is(err, unix.EBUSY) {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) removePartitions() {
	f, err := os.Open(filepath.Join(b.dev, b.disk))
	if err != nil {
		b.t.Error(err)
		return
	}
	defer f.Close()
	for n := range 3 {
		// whoever looks at all partitions of the host holds it for a moment
		testenv.WaitFor(b.t, "the end of a partition", func() bool {
			err = partition(f, unix.BLKPG_DEL_PARTITION, unix.BlkpgPartition{Pno: int32(n + 1)})
			return !errors.Is(err, unix.EBUSY)
		})
		if err != nil && !errors.Is(err, unix.ENXIO) {
			b.t.Error(err)
		}
	}
}

// mayGrow reports whether the kernel lets us: it wants CAP_SYS_RESOURCE, which a container may lack.
func mayGrow(t *testing.T) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	if data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0 {
		return true
	}
	t.Log("no CAP_SYS_RESOURCE here: only the story first_boot_grow tests that the file system grows")
	return false
}

// makeNode makes a device node: a container, where tests may run, has nobody who does that.
func (b *bench) makeNode(name string) {
	b.t.Helper()
	path := "/sys/class/block/" + name + "/dev"
	var text []byte
	testenv.WaitFor(b.t, path, func() (there bool) {
		var err error
		text, err = os.ReadFile(path)
		return err == nil
	})
	var major, minor uint32
	if _, err := fmt.Sscanf(string(text), "%d:%d", &major, &minor); err != nil {
		b.t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(b.dev, name), unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor))); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) node(number int) string {
	return filepath.Join(b.dev, fmt.Sprintf("%sp%d", b.disk, number))
}

func (b *bench) attach() {
	b.t.Helper()
	for n, label := range []string{disk.State, disk.Data} {
		target := filepath.Join(b.dir, label)
		if err := os.MkdirAll(target, 0o755); err != nil {
			b.t.Fatal(err)
		}
		if err := unix.Mount(b.node(2+n), target, "ext4", 0, ""); err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { unix.Unmount(target, 0) })
	}
}

func (b *bench) detach() {
	b.t.Helper()
	for _, label := range []string{disk.State, disk.Data} {
		if err := unix.Unmount(filepath.Join(b.dir, label), 0); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) device() *Device {
	b.t.Helper()
	all, err := disk.Read("/sys")
	if err != nil {
		b.t.Fatal(err)
	}
	mounts, err := attach.ReadMounts()
	if err != nil {
		b.t.Fatal(err)
	}
	for i, p := range all { // not every kernel tells names
		if p.Disk == b.disk {
			all[i].Label = []string{disk.Boot, disk.State, disk.Data}[p.Number-1]
		}
	}
	return &Device{Sys: "/sys", Dev: b.dev, Disk: b.disk, Partitions: all, Mounts: mounts,
		Log: slog.New(slog.DiscardHandler)}
}

func (b *bench) written() string {
	b.t.Helper()
	text, err := os.ReadFile("/sys/block/" + b.disk + "/stat")
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.Fields(string(text))[6]
}

// size is what the kernel knows of a partition.
func (b *bench) size(number int) int64 {
	b.t.Helper()
	f, err := os.Open(b.node(number))
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		b.t.Fatal(err)
	}
	return size
}

func (b *bench) check() {
	b.t.Helper()
	for n := 2; n <= 3; n++ {
		testenv.Run(b.t, "e2fsck", "-f", "-n", b.node(n))
	}
	testenv.Run(b.t, "fsck.vfat", "-n", b.node(1))
}

func TestGrowWhileAttached(t *testing.T) {
	for name, tt := range map[string]struct {
		sector string
		size   int64
	}{"4 GiB": {"512", 4 << 30}, "sectors of 4 KiB": {"4096", 1 << 30}, "3 TiB": {"512", 3 << 40}} {
		t.Run(name, func(t *testing.T) {
			if tt.size > 1<<40 && testing.Short() {
				t.Skip("-short: takes long")
			}
			b := newBench(t, tt.sector, tt.size, func(*os.File) {})
			b.attach()
			keep := filepath.Join(b.dir, disk.Data, "kept")
			if err := os.WriteFile(keep, []byte("kept"), 0o600); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			grows := mayGrow(t)
			if err := b.device().Run(); err != nil && (grows || !errors.Is(err, unix.EPERM)) {
				t.Fatal(err)
			}
			t.Logf("took %v", time.Since(begin))
			var st unix.Statfs_t
			if err := unix.Statfs(filepath.Join(b.dir, disk.Data), &st); err != nil {
				t.Fatal(err)
			}
			// Tables of inodes take a share of the size.
			if have := int64(st.Blocks) * st.Bsize; grows && have < tt.size/10*9-512*mib {
				t.Errorf("the file system has %d MiB of a disk of %d MiB", have/mib, tt.size/mib)
			}
			// the kernel holds back some on top
			if reserved := (st.Bfree - st.Bavail) * 1000 / st.Blocks; reserved < 5 || reserved > 60 {
				t.Errorf("%d of 1000 blocks are reserved", reserved)
			}
			if text, err := os.ReadFile(keep); err != nil || string(text) != "kept" {
				t.Errorf("what was there: %q, %v", text, err)
			}
			unix.Sync()
			if size := b.size(3); size < tt.size-64*mib {
				t.Errorf("the kernel knows a partition of %d MiB on a disk of %d MiB", size/mib, tt.size/mib)
			}
			before := b.written()
			if err := b.device().Run(); err != nil && grows {
				t.Errorf("a second run: %v", err)
			}
			if tt.size < 1<<40 && before != b.written() { // the kernel still fills a large one's tables
				t.Error("a second run writes")
			}
			b.detach()
			b.check()
			for n := 2; n <= 3; n++ {
				s, _, err := look(b.node(n))
				if err != nil || ofImage(s.UUID) || s.UUID[6]>>4 != 4 {
					t.Errorf("UUID %x, %v", s.UUID, err)
				}
			}
			if text := testenv.Run(t, "blkid", "-p", "-s", "UUID", "-o", "value", b.node(1)); strings.EqualFold(text,
				"0302-0100") {
				t.Errorf("the boot partition keeps the number %s", text)
			}
		})
	}
}

// TestCutBetweenParts: the table says more than the kernel or the file system knows, as after a power cut.
func TestCutBetweenParts(t *testing.T) {
	b := newBench(t, "512", 1<<30, func(f *os.File) {
		table, err := gpt.Read(f, 512, 1<<21)
		if err != nil {
			t.Fatal(err)
		}
		repair, err := gpt.Plan(table, disk.Data)
		if err != nil {
			t.Fatal(err)
		}
		if err := repair.Apply(f, 512); err != nil {
			t.Fatal(err)
		}
	})
	b.attach()
	grows := mayGrow(t)
	if err := b.device().Run(); err != nil && (grows || !errors.Is(err, unix.EPERM)) {
		t.Fatal(err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Join(b.dir, disk.Data), &st); err != nil ||
		grows && int64(st.Blocks)*st.Bsize < 800*mib {
		t.Errorf("the file system has %d blocks (%v)", st.Blocks, err)
	}
	b.detach()
	b.check()
}

func TestRepairWhileAttached(t *testing.T) {
	b := newBench(t, "512", 128*mib, func(f *os.File) {
		if _, err := f.WriteAt(make([]byte, 512), 128*mib-512); err != nil {
			t.Fatal(err)
		}
	})
	b.attach()
	if err := b.device().Run(); err != nil {
		t.Fatal(err)
	}
	b.detach()
	b.check()
	f, err := os.Open(filepath.Join(b.dev, b.disk))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := gpt.Read(f, 512, 128*mib/512)
	if err != nil || table.First != nil || table.Second != nil {
		t.Errorf("afterwards %v, %v, %v", table.First, table.Second, err)
	}
	if _, err := diskgpt.Read(f, 512, 512); err != nil {
		t.Errorf("another reader: %v", err)
	}
}
