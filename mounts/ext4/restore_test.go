package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/mounts/testenv"
)

// content is what mke2fs makes of a disk of so many MiB. An -O among more takes the place of the one here.
func content(t *testing.T, mib int64, more ...string) []byte {
	t.Helper()
	file := testenv.Disk(t, mib)
	testenv.Run(t, "mke2fs", append([]string{"-q", "-F", "-t", "ext4", "-b", "4096", "-O", "metadata_csum"},
		append(more, file)...)...)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFindCopy(t *testing.T) {
	small := content(t, 64, "-g", "8192")
	odd := content(t, 64, "-g", "4096")
	same := func(b []byte) []byte { return bytes.Clone(b) }
	wiped := func(b []byte) []byte { return append(make([]byte, 8192), b[8192:]...) }
	torn := func(b []byte) []byte { b = bytes.Clone(b); b[1024+0x3fc] ^= 1; return b }
	elsewhere := func(b []byte) []byte { // the copy of another file system, whose groups were smaller
		b = bytes.Clone(b)
		copy(b[8192*4096:], b[4096*4096:][:1024])
		return b
	}
	second := func(b []byte) []byte { b = torn(b); b[8192*4096+9] ^= 1; return b }
	for name, tt := range map[string]struct {
		disk []byte
		want int64
	}{
		"whole":                                {same(small), 8192},
		"torn":                                 {torn(small), 8192},
		"wiped":                                {wiped(small), 8192},
		"both are torn":                        {second(small), 0},
		"groups of mke2fs's own size":          {torn(content(t, 160)), 32768},
		"one group":                            {torn(content(t, 64)), 0},
		"groups of no size of ours":            {torn(odd), 4096},
		"and nothing says how large they were": {wiped(odd), 0},
		"a copy that belongs elsewhere":        {wiped(elsewhere(odd)), 0},
		"too short":                            {small[:2048], 0},
		"empty":                                {nil, 0},
	} {
		c, found := FindCopy(bytes.NewReader(tt.disk))
		if c.Block != tt.want || found != (tt.want != 0) || found && c.BlockSize != 4096 {
			t.Errorf("%s: FindCopy = %+v, %t, want block %d", name, c, found, tt.want)
		}
	}
}

// memory is a disk.
type memory []byte

func (m memory) ReadAt(b []byte, at int64) (int, error) { return bytes.NewReader(m).ReadAt(b, at) }

func (m memory) WriteAt(b []byte, at int64) (int, error) { return copy(m[at:], b), nil }

func (memory) Sync() error { return nil }

// journalled is a disk that loses its power at some call, and with it any of what was written since the last Sync.
type journalled struct {
	stable, now memory
	left        int
}

func (d *journalled) ReadAt(b []byte, at int64) (int, error) { return d.now.ReadAt(b, at) }

func (d *journalled) WriteAt(b []byte, at int64) (int, error) {
	if d.left--; d.left < 0 {
		return 0, errCut
	}
	return d.now.WriteAt(b, at)
}

func (d *journalled) Sync() error {
	if d.left--; d.left < 0 {
		return errCut
	}
	d.stable = bytes.Clone(d.now)
	return nil
}

var errCut = errors.New("power cut")

// TestRestoreCut: wherever the power goes, and whatever of what was not yet synced the disk has then, the superblock is
// whole only when the descriptors are, and Restore ends it.
func TestRestoreCut(t *testing.T) {
	damaged := content(t, 160, "-g", "2048", "-O", "metadata_csum,64bit") // descriptors in more than one sector
	damaged = damaged[:2060*4096]                                         // as far as Restore reads
	clear(damaged[:8192])
	c := Copy{Block: 2048, BlockSize: 4096}
	random := rand.New(rand.NewSource(1))
	for left := 0; ; left++ {
		done := false
		for range 50 {
			d := &journalled{stable: damaged, now: bytes.Clone(damaged), left: left}
			_, _, err := Restore(d, c)
			done = err == nil
			disk := memory(bytes.Clone(d.stable))
			for at := 0; at < 16<<10; at += 512 {
				if random.Intn(2) == 0 {
					copy(disk[at:at+512], d.now[at:])
				}
			}
			if _, err := Read(disk); err == nil {
				if _, err := readGroups(disk, c.BlockSize, disk[superAt:][:superSize]); err != nil {
					t.Fatalf("cut at call %d: the superblock is whole, but %v", left, err)
				}
			} else if _, _, err := Restore(disk, c); err != nil {
				t.Fatalf("cut at call %d: %v", left, err)
			}
			if _, err := Read(disk); err != nil {
				t.Fatalf("cut at call %d: %v", left, err)
			}
		}
		if done {
			return
		}
	}
}

func TestRestore(t *testing.T) {
	sound := content(t, 64, "-g", "8192")
	c := Copy{Block: 8192, BlockSize: 4096}
	for name, tt := range map[string]struct {
		damage func(b []byte)
		said   string // what Restore says
		same   bool   // and then all is as before the damage
	}{
		"checksum": {func(b []byte) { b[superAt+0x3fc] ^= 1 }, "torn", true},
		"a newer first sector": {func(b []byte) { b[superAt+0x34]++; b[superAt+0x60] |= incompatRecover }, "torn",
			false},
		"an older second sector": {func(b []byte) { clear(b[superAt+0x270+4:][:100]); b[superAt+0x3fd] ^= 9 },
			"torn", false},
		"growth":                         {func(b []byte) { b[superAt+0x05] += 0x20 }, "torn", false},
		"a larger group":                 {func(b []byte) { b[superAt+0x21] ^= 0x10 }, "was lost", false},
		"another feature":                {func(b []byte) { b[superAt+0x60] ^= 0x80 }, "was lost", false},
		"fewer blocks than the copy has": {func(b []byte) { b[superAt+0x05]-- }, "was lost", false},
		"wiped":                          {func(b []byte) { clear(b[:4096]) }, "was lost", false},
		"wiped with the descriptors":     {func(b []byte) { clear(b[:8192]) }, "with the descriptors", false},
		"wiped with half of them":        {func(b []byte) { clear(b[:4096+20]) }, "with the descriptors", false},
		"the second of them": {func(b []byte) { clear(b[:4096]); b[4096+64] ^= 1 }, "with the descriptors",
			false},
		"wiped with all descriptors": {func(b []byte) { clear(b[:8192]); b[8193*4096] ^= 1 }, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			disk := memory(bytes.Clone(sound))
			tt.damage(disk)
			damaged := bytes.Clone(disk)
			said, groups, err := Restore(disk, c)
			if tt.said == "" {
				if !errors.Is(err, ErrNone) || !bytes.Equal(disk, damaged) {
					t.Errorf("Restore = %q, %v, changed %t", said, err, !bytes.Equal(disk, damaged))
				}
				return
			}
			if err != nil || !strings.Contains(said, tt.said) {
				t.Fatalf("Restore = %q, %v, want %q", said, err, tt.said)
			}
			if groups != strings.Contains(said, "descriptors") {
				t.Errorf("Restore says %q, and of the groups %t", said, groups)
			}
			if s, err := Read(disk); err != nil || s.Damaged != strings.Contains(said, "was lost") {
				t.Errorf("after Restore: %+v, %v", s, err)
			}
			if _, err := readGroups(disk, c.BlockSize, disk[superAt:][:superSize]); groups && err != nil {
				t.Errorf("after Restore: %v", err)
			}
			if tt.same && !bytes.Equal(disk, sound) {
				t.Error("more has changed than was damaged")
			}
			// only one of the two sectors was written
			for name, cut := range map[string][2]int{"first": {0, 512}, "second": {512, 1024}} {
				half := memory(bytes.Clone(damaged))
				copy(half[superAt+cut[0]:superAt+cut[1]], disk[superAt+cut[0]:])
				if _, err := Read(half); err == nil {
					continue // the other did not have to change
				}
				if _, _, err := Restore(half, c); err != nil {
					t.Errorf("cut after the %s sector: %v", name, err)
				} else if _, err := Read(half); err != nil {
					t.Errorf("cut after the %s sector, and restored: %v", name, err)
				}
			}
		})
	}
}

// TestRestoreBitmaps: descriptors that are older than the bitmaps get the checksums of these, without which libext2fs
// reads none.
func TestRestoreBitmaps(t *testing.T) {
	for name, features := range map[string]string{"64 bytes": "metadata_csum,64bit",
		"32 bytes": "metadata_csum,^64bit"} {
		t.Run(name, func(t *testing.T) {
			before := content(t, 64, "-g", "8192", "-O", features)
			file, source := filepath.Join(t.TempDir(), "disk"), filepath.Join(t.TempDir(), "source")
			err := errors.Join(os.WriteFile(file, before, 0o600), os.WriteFile(source, bytes.Repeat([]byte{1}, 1<<20),
				0o600))
			if err != nil {
				t.Fatal(err)
			}
			testenv.Run(t, "debugfs", "-w", "-R", "write "+source+" later", file)
			disk, err := os.OpenFile(file, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer disk.Close()
			const copyAt = 8192 * 4096
			_, err1 := disk.WriteAt(before[copyAt:][:8192], copyAt)
			_, err2 := disk.WriteAt(make([]byte, 8192), 0)
			_, groups, err3 := Restore(disk, Copy{Block: 8192, BlockSize: 4096})
			if err := errors.Join(err1, err2, err3); err != nil || !groups {
				t.Fatalf("Restore: groups %t, %v", groups, err)
			}
			for _, look := range []string{"testb 100", "testi <8>"} {
				if said := testenv.Run(t, "debugfs", "-R", look, file); !strings.Contains(said, "marked") {
					t.Errorf("debugfs %s: %s", look, said)
				}
			}
		})
	}
}

func FuzzFindCopy(f *testing.F) {
	b := make([]byte, 64<<10)
	binary.LittleEndian.PutUint32(b[1024+0x20:], 8)
	binary.LittleEndian.PutUint32(b[1024+0x18:], 2)
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, found := FindCopy(bytes.NewReader(b)); found && (c.Block <= 0 ||
			c.Block*c.BlockSize+superSize > int64(len(b))) {
			t.Errorf("FindCopy = %+v in %d bytes", c, len(b))
		}
	})
}
