package modinfo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"resinos/bsp/kmod"
)

// module makes the smallest ELF object with a .modinfo section: header, two sections, their names.
func module(fields ...string) []byte {
	info := strings.Join(fields, "\x00") + "\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9)) // 64 bit, little endian
	put := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(&b, binary.LittleEndian, v) // a buffer takes everything
		}
	}
	const header, entry = 64, 64
	sections := uint64(header + len(info) + len(names))
	put(uint16(1), uint16(62), uint32(1), uint64(0), uint64(0), sections, uint32(0)) // relocatable, x86-64
	put(uint16(header), uint16(0), uint16(0), uint16(entry), uint16(3), uint16(2))
	b.WriteString(info + names)
	put(make([]byte, entry))
	put(uint32(1), uint32(1), uint64(2), uint64(0), uint64(header), uint64(len(info)), uint32(0), uint32(0), uint64(1),
		uint64(0))
	put(uint32(10), uint32(3), uint64(0), uint64(0), uint64(header+len(info)), uint64(len(names)), uint32(0), uint32(0),
		uint64(1), uint64(0))
	return b.Bytes()
}

func TestParse(t *testing.T) {
	m, err := Parse(module("name=ext4", "depends=jbd2,mbcache", "softdep=pre: crypto-crc32c"))
	if err != nil || m.Name != "ext4" || !slices.Equal(m.Depends, []string{"jbd2", "mbcache"}) ||
		!slices.Equal(m.Pre, []string{"crypto_crc32c"}) {
		t.Errorf("Parse = %+v, %v", m, err)
	}
	good := module("name=x")
	for name, bad := range map[string][]byte{
		"empty":   {},
		"text":    []byte("not an ELF file at all, but long enough to look like one: xxxxxxxxxxxxxxxxxxxxxxxx"),
		"cut off": good[:80], "no section": bytes.ReplaceAll(good, []byte(".modinfo"), []byte(".notinfo")),
	} {
		if m, err := Parse(bad); err == nil {
			t.Errorf("%s: Parse = %+v, want an error", name, m)
		}
	}
}

// pack writes content to file, compressed as its name says.
func pack(t *testing.T, file string, content []byte) {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch filepath.Ext(file) {
	case ".xz":
		w, e := xz.NewWriter(&b)
		if e != nil {
			t.Fatal(e)
		}
		_, err = w.Write(content)
		err = errors.Join(err, w.Close())
	case ".gz":
		w := gzip.NewWriter(&b)
		_, err = w.Write(content)
		err = errors.Join(err, w.Close())
	case ".zst":
		w, e := zstd.NewWriter(&b)
		if e != nil {
			t.Fatal(e)
		}
		_, err = w.Write(content)
		err = errors.Join(err, w.Close())
	default:
		b.Write(content)
	}
	err = errors.Join(err, os.MkdirAll(filepath.Dir(file), 0o755))
	if err := errors.Join(err, os.WriteFile(file, b.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// tree unpacks a small kernel whose modules have the compression that suffix names.
func tree(t *testing.T, suffix string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "6.12.0")
	for p, content := range map[string][]byte{
		"kernel/fs/ext4/ext4.ko":        module("name=ext4", "depends=jbd2,mbcache", "softdep=pre: crypto-crc32c"),
		"kernel/fs/jbd2/jbd2.ko":        module("name=jbd2"),
		"kernel/fs/mbcache.ko":          module("name=mbcache"),
		"kernel/crypto/crc32c-gen.ko":   module("name=crc32c_gen", "alias=crypto-crc32c"),
		"kernel/fs/fat/vfat.ko":         module("name=vfat", "depends=fat"),
		"kernel/fs/fat/fat.ko":          module("depends="),
		"kernel/drivers/virtio/vnet.ko": module("name=vnet", "depends=virtio"),
		"kernel/broken.ko":              []byte("not a module"),
	} {
		pack(t, filepath.Join(dir, p+suffix), content)
	}
	if err := os.WriteFile(filepath.Join(dir, "modules.builtin"), []byte("kernel/drivers/virtio/virtio.ko\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTree(t *testing.T) {
	for _, suffix := range []string{"", ".xz", ".gz", ".zst"} {
		tr, err := OpenTree(tree(t, suffix))
		if err != nil {
			t.Fatal(err)
		}
		wanted := tr.Select(func(p string) bool {
			return p == "fs/fat/vfat" || strings.HasPrefix(p, "drivers/") || strings.HasPrefix(p, "crypto/")
		})
		closed, err := tr.Closure(t.Context(), append(wanted, "ext4"))
		var got []string
		for _, m := range closed {
			got = append(got, m.Path)
		}
		want := "kernel/crypto/crc32c-gen.ko kernel/fs/fat/fat.ko kernel/fs/fat/vfat.ko " +
			"kernel/drivers/virtio/vnet.ko kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko kernel/fs/ext4/ext4.ko"
		// vfat and vnet are asked for in order of their names
		slices.Sort(got)
		wantSorted := strings.Fields(want)
		slices.Sort(wantSorted)
		if err != nil || !slices.Equal(got, wantSorted) || tr.Release != "6.12.0" {
			t.Errorf("%q: Closure = %q, %v, want %q", suffix, got, err, wantSorted)
		}
		for _, m := range closed {
			ko, err := tr.Content(m)
			if back, perr := Parse(ko); err != nil || perr != nil || back.Name != m.Name && back.Name != "" {
				t.Errorf("%q: Content(%s) is %q, %v, %v", suffix, m.Name, back.Name, err, perr)
			}
		}
	}
}

func TestTreeFaults(t *testing.T) {
	if _, err := OpenTree(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenTree of nothing: %v", err)
	}
	for _, suffix := range []string{"", ".xz"} {
		tr, err := OpenTree(tree(t, suffix))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Closure(t.Context(), []string{"vfat", "broken"}); err == nil ||
			!strings.Contains(err.Error(), "kernel/broken.ko") {
			t.Errorf("%q: Closure of a broken module: %v, want its file named", suffix, err)
		}
		if _, err := tr.Closure(t.Context(), []string{"nowhere"}); err == nil ||
			!strings.Contains(err.Error(), "nowhere") {
			t.Errorf("%q: Closure of an unknown module: %v", suffix, err)
		}
		if _, err := tr.Content(kmod.Module{Name: "never_asked"}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: Content: %v", suffix, err)
		}
	}
}

func TestTreeDamagedXZ(t *testing.T) {
	dir := tree(t, ".xz")
	file := filepath.Join(dir, "kernel/fs/jbd2/jbd2.ko.xz")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 0xff
	for name, content := range map[string][]byte{"empty": {}, "cut off": whole[:len(whole)/2], "flipped": flipped} {
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
		tr, err := OpenTree(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Closure(t.Context(), []string{"ext4", "vfat"}); err == nil ||
			!strings.Contains(err.Error(), "jbd2.ko.xz") {
			t.Errorf("%s: Closure: %v, want the file named", name, err)
		}
	}
}

func TestClosureCancelled(t *testing.T) {
	tr, err := OpenTree(tree(t, ".xz"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tr.Closure(ctx, []string{"ext4", "vfat"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Closure: %v, want that it is cancelled", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(module("name=x", "depends=a,b"))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, ko []byte) {
		_, _ = Parse(ko) // must not panic
	})
}
