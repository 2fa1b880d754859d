package fat

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"resinos/mounts/fat/fattest"
	"resinos/mounts/testenv"
)

func shared(t *testing.T, file string) (string, bool) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, found, err := Shared(f)
	if err != nil {
		t.Fatal(err)
	}
	return p.String(), found
}

// fill puts many files into many directories, so that both have several clusters.
func fill(t *testing.T, file string) {
	t.Helper()
	for _, dir := range []string{"deep", "deep/er"} {
		testenv.Run(t, "mmd", "-i", file, "::"+dir)
	}
	for n := range 40 {
		fattest.Copy(t, file, fmt.Sprintf("deep/er/a file with a long name %d", n), strings.Repeat("x", 3000))
	}
	fattest.Copy(t, file, "deep/config.json", "the content")
	fattest.Copy(t, file, "empty", "")
	fattest.Copy(t, file, "empty too", "")
}

func TestShared(t *testing.T) {
	for bits, mib := range map[string]int64{"12": 1, "16": 8, "32": 40} {
		t.Run(bits, func(t *testing.T) {
			file := fattest.New(t, mib, bits)
			fill(t, file)
			if p, found := shared(t, file); found {
				t.Errorf("a sound file system: %s", p)
			}
			fattest.Copy(t, file, "config.json.new", "") // FIBMAP calls this one nothing, whatever it leads to
			fattest.Cross(t, file, "CONFIG~1JSO", "CONFIG~1NEW")
			if p, found := shared(t, file); !found || p != "CONFIG~1.NEW and CONFIG~1.JSO share their blocks" {
				t.Errorf("a file under two names: %s, %v", p, found)
			}
		})
	}
}

// TestEndless: what leads in circles is told or given up, and nothing is read without end.
func TestEndless(t *testing.T) {
	file := fattest.New(t, 40, "32")
	fill(t, file)
	fattest.Cross(t, file, "DEEP       ", "ER         ")
	if p, found := shared(t, file); !found {
		t.Errorf("a directory in itself: %s, %v", p, found)
	}
	disk, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Open(bytes.NewReader(disk))
	if err != nil {
		t.Fatal(err)
	}
	// the root directory's cluster is followed by itself
	copy(disk[v.table+4*int64(v.root):], []byte{byte(v.root), 0, 0, 0})
	if _, _, err := Shared(bytes.NewReader(disk)); !errors.Is(err, ErrNone) {
		t.Errorf("a directory without an end: %v", err)
	}
	if _, _, err := Shared(bytes.NewReader(make([]byte, 4096))); !errors.Is(err, ErrNone) {
		t.Errorf("no file system: %v", err)
	}
}

func FuzzShared(f *testing.F) {
	for bits, sectors := range map[byte]byte{12: 16, 16: 16, 32: 16} {
		b := make([]byte, 4096)
		copy(b[11:], []byte{0, 2, 1, 1, 0, 1, 16, 0, sectors, 0, 0xf8, 1, 0})
		if bits == 32 {
			copy(b[17:], make([]byte, 2))
			copy(b[22:], make([]byte, 2))
			copy(b[36:], []byte{1, 0, 0, 0, 0, 0, 0, 0, 2})
		}
		b[510], b[511] = 0x55, 0xaa
		copy(b[1024:], "A       TXT ")
		b[1024+26] = 3
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, found, err := Shared(bytes.NewReader(b))
		if found && (err != nil || p[0] == "" && p[1] == "") {
			t.Errorf("Shared = %q, %v, %v", p, found, err)
		}
	})
}

func open(t *testing.T, file string) *FileSystem {
	t.Helper()
	disk, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	f, err := Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestRead reads what mtools wrote, on file systems of all three sorts.
func TestRead(t *testing.T) {
	for bits, mib := range map[string]int64{"12": 1, "16": 8, "32": 40} {
		t.Run(bits, func(t *testing.T) {
			file := fattest.New(t, mib, bits)
			fill(t, file)
			fattest.Copy(t, file, "A", "short")
			f := open(t, file)
			for path, want := range map[string]string{
				"A": "short", "/a": "short", "empty": "", "deep/config.json": "the content",
				"DEEP/CONFIG.JSON":                    "the content",
				"/deep/er/a file with a long name 39": strings.Repeat("x", 3000),
			} {
				if got, err := f.Read(path); err != nil || string(got) != want {
					t.Errorf("Read(%s) = %d bytes, %v, want %d", path, len(got), err, len(want))
				}
				at, size, err := f.Place(path)
				if want == "" {
					if err == nil {
						t.Errorf("Place(%s) = %d of an empty file", path, at)
					}
					continue
				}
				begin := make([]byte, min(len(want), 512))
				if _, e := f.disk.ReadAt(begin, at); err != nil || e != nil || size != int64(len(want)) ||
					!strings.HasPrefix(want, string(begin)) {
					t.Errorf("Place(%s) = %d, %d, %v: there is %.20q", path, at, size, err, begin)
				}
			}
			for _, path := range []string{"none", "deep/none/x", "A/x", "deep", "deep/er", "", "/",
				"deep//config.json"} {
				if got, err := f.Read(path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("Read(%s) = %q, %v, want %v", path, got, err, fs.ErrNotExist)
				}
			}
		})
	}
}

// TestExtents: the pieces of a file are its content, and its entry begins with its short name, on all three sorts and
// in a directory of several clusters. A file that fills the gap of a removed one, and goes on behind it, has two
// pieces.
func TestExtents(t *testing.T) {
	for bits, mib := range map[string]int64{"12": 1, "16": 8, "32": 40} {
		t.Run(bits, func(t *testing.T) {
			file := fattest.New(t, mib, bits)
			for n := range 3 {
				fattest.Copy(t, file, fmt.Sprint("gap", n), strings.Repeat("g", 600))
			}
			testenv.Run(t, "mdel", "-i", file, "::gap1")
			split := strings.Repeat("abcd", 500)
			fattest.Copy(t, file, "split", split)
			fill(t, file)
			f := open(t, file)
			parts := 2
			if bits == "32" {
				parts = 1 // there mtools begins behind the last file that it has written
			}
			for path, want := range map[string]struct {
				content, short string
				pieces         int
			}{
				"gap0":                               {strings.Repeat("g", 600), "GAP0       ", 1},
				"split":                              {split, "SPLIT      ", parts},
				"empty too":                          {"", "EMPTYT~1   ", 0},
				"deep/config.json":                   {"the content", "CONFIG~1JSO", 1},
				"deep/er/a file with a long name 39": {strings.Repeat("x", 3000), "AFILE~40   ", 1},
			} {
				pieces, at, err := f.Extents(path)
				if err != nil {
					t.Error(err)
					continue
				}
				var content []byte
				for _, p := range pieces {
					b := make([]byte, p.Size)
					_, e := f.disk.ReadAt(b, p.At)
					content, err = append(content, b...), errors.Join(err, e)
				}
				short := make([]byte, 11)
				_, e := f.disk.ReadAt(short, at)
				if err != nil || e != nil || string(content) != want.content {
					t.Errorf("Extents(%s) = %v: there is %.40q, %v, %v", path, pieces, content, err, e)
				}
				if string(short) != want.short || len(pieces) != want.pieces {
					t.Errorf("Extents(%s) = %v, entry %q, want %d pieces, entry %q", path, pieces, short, want.pieces,
						want.short)
				}
			}
			if _, _, err := f.Extents("none"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Extents(none): %v", err)
			}
		})
	}
}

// TestUsage compares with what mtools counts.
func TestUsage(t *testing.T) {
	for bits, mib := range map[string]int64{"12": 1, "16": 8, "32": 40} {
		t.Run(bits, func(t *testing.T) {
			file := fattest.New(t, mib, bits)
			testenv.Run(t, "mlabel", "-i", file, "-N", "1234abcd", "::some")
			fill(t, file)
			f := open(t, file)
			size, free, clean, err := f.Usage()
			if err != nil || !clean || size > mib<<20 || size < mib<<20*9/10 {
				t.Errorf("Usage = %d, %d, %v, %v", size, free, clean, err)
			}
			if f.Number != 0x1234abcd || !strings.EqualFold(f.Label, "some") {
				t.Errorf("number %x, label %q", f.Number, f.Label)
			}
			said := strings.ReplaceAll(testenv.Run(t, "mdir", "-i", file, "::"), " ", "")
			if want := fmt.Sprintf("\n%dbytesfree", free); !strings.Contains(said, want) {
				t.Errorf("%d bytes are free; mdir says %s", free, said)
			}
		})
	}
}

// TestHalfName: of a long name whose parts do not fit together, as a cut leaves it, the short one remains.
func TestHalfName(t *testing.T) {
	file := fattest.New(t, 1, "12")
	fattest.Copy(t, file, "a rather long name", "x")
	disk, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(disk, []byte("ARATHE~1   "))
	if at < 64 {
		t.Fatal("the short name is not there")
	}
	disk[at-32] = 3 // the part that should be the first
	f, err := Open(bytes.NewReader(disk))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.Read("arathe~1"); err != nil || string(got) != "x" {
		t.Errorf("by the short name: %q, %v", got, err)
	}
	if got, err := f.Read("a rather long name"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("by the broken long name: %q, %v", got, err)
	}
}

// FuzzRead: whatever a disk holds, reading ends and what it gives is on the disk.
func FuzzRead(f *testing.F) {
	head := make([]byte, 8<<10)
	copy(head[11:], []byte{0, 2, 1, 1, 0, 1})
	head[32], head[36], head[44] = 16, 1, 2
	head[510], head[511] = 0x55, 0xaa
	copy(head[512+8:], []byte{0xff, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x0f})
	copy(head[1024:], "A       TXT ")
	head[1024+26], head[1024+28] = 3, 5
	f.Add(head, "a.txt")
	f.Fuzz(func(t *testing.T, disk []byte, path string) {
		f, err := Open(bytes.NewReader(disk))
		if err != nil {
			return
		}
		if content, err := f.Read(path); err == nil && len(content) > len(disk)*int(f.clusters) {
			t.Errorf("%s has %d bytes", path, len(content))
		} else if err == nil {
			pieces, _, err := f.Extents(path)
			size := int64(0)
			for _, p := range pieces {
				size += p.Size
			}
			if err != nil || size != int64(len(content)) {
				t.Errorf("%s has %d bytes in %v, %v", path, len(content), pieces, err)
			}
		}
		if size, free, _, err := f.Usage(); err == nil && (free < 0 || free > size) {
			t.Errorf("%d of %d bytes are free", free, size)
		}
	})
}
