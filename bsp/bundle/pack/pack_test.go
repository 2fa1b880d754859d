package pack_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"resinos/bsp/bundle"
	"resinos/bsp/bundle/pack"
	"resinos/bsp/bundle/trust"
)

// random returns n bytes that depend on seed alone; every other kilobyte repeats itself, so that it can be compressed.
func random(seed uint64, n int) []byte {
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, n)
	src.Read(b)
	for at := 0; at+1024 <= n; at += 2048 {
		copy(b[at:at+1024], bytes.Repeat(b[at:at+16], 64))
	}
	return b
}

// image returns a slot of 2 MiB: data, zeros, data that occurs twice, zeros up to the end.
func image(seed uint64) []byte {
	b := make([]byte, 2<<20)
	copy(b, random(seed, 500_000))
	copy(b[800<<10:], random(seed+1, 300_000))
	copy(b[1200<<10:], random(seed+1, 300_000))
	return b
}

// key is a pair of keys.
type key struct{ private, public string }

// newKey returns the keys of a name, always the same.
var newKey = func() func(t testing.TB, name string) key {
	var known sync.Map
	return func(t testing.TB, name string) key {
		if k, found := known.Load(name); found {
			return k.(key)
		}
		sum := sha256.Sum256([]byte(name))
		private, public, err := note.GenerateKey(bytes.NewReader(bytes.Repeat(sum[:], 8)), name)
		if err != nil {
			t.Fatal(err)
		}
		k, _ := known.LoadOrStore(name, key{private, public})
		return k.(key)
	}
}()

// otherKey returns another key of the same name.
func otherKey(t testing.TB, name string) key {
	t.Helper()
	private, public, err := note.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{7}, 256)), name)
	if err != nil {
		t.Fatal(err)
	}
	return key{private, public}
}

func trusting(threshold int, keys ...key) trust.Keys {
	k := trust.Keys{Threshold: threshold}
	for _, one := range keys {
		k.Public = append(k.Public, one.public)
	}
	return k
}

func manifest(size int) bundle.Manifest {
	return bundle.Manifest{
		Board: "qemu-x86_64", Variant: "development", Version: "1.2.3", MinFrom: "1.0.0",
		RollbackIndex: 7, Slot: bundle.SlotImage{Size: int64(size)},
		Boot: []bundle.BootFile{{Name: "boot.scr", Size: 10, SHA256: strings.Repeat("ab", 32)}},
	}
}

// write returns the bundle of a slot.
func write(t testing.TB, m bundle.Manifest, slot []byte, keys ...key) []byte {
	t.Helper()
	var out bytes.Buffer
	var private []string
	for _, k := range keys {
		private = append(private, k.private)
	}
	if _, err := pack.Write(&out, m, bytes.NewReader(slot), &spool{}, private); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// spool is a file in memory.
type spool struct {
	bytes.Buffer
}

func (s *spool) Seek(int64, int) (int64, error) { return 0, nil }

// file is a source that counts what is read from it.
type file struct {
	data []byte
	read int64
	fail func(at int64) error // returns the fault of a read
}

func (f *file) Size() int64 { return int64(len(f.data)) }

func (f *file) ReadAt(p []byte, at int64) (int, error) {
	if f.fail != nil {
		if err := f.fail(at); err != nil {
			return 0, err
		}
	}
	n, err := bytes.NewReader(f.data).ReadAt(p, at)
	f.read += int64(n)
	return n, err
}

// slot is an idle slot in memory. It counts reads and writes, and fails the one after the last allowed.
type slot struct {
	data    []byte
	read    int64
	writes  int
	written int64
	allowed int // 0: all
	lie     bool
}

var errCut = errors.New("power cut")

func (s *slot) ReadAt(p []byte, at int64) (int, error) {
	s.read += int64(len(p))
	return bytes.NewReader(s.data).ReadAt(p, at)
}

func (s *slot) WriteAt(p []byte, at int64) (int, error) {
	s.writes++
	if s.allowed > 0 && s.writes > s.allowed {
		return copy(s.data[at:], p[:len(p)/2]), errCut // a torn write
	}
	s.written += int64(len(p))
	if s.lie {
		return len(p), nil
	}
	return copy(s.data[at:], p), nil
}

func (s *slot) Sync() error { return nil }

func install(t testing.TB, src bundle.Source, keys trust.Keys, seed []byte, s *slot) (bundle.Progress, error) {
	t.Helper()
	b, err := bundle.Open(src, keys)
	if err != nil {
		return bundle.Progress{}, err
	}
	var r io.ReaderAt
	if seed != nil {
		r = bytes.NewReader(seed)
	}
	var last bundle.Progress
	err = b.Install(t.Context(), r, int64(len(seed)), s, func(p bundle.Progress) { last = p })
	return last, err
}

func TestInstall(t *testing.T) {
	k := newKey(t, "release")
	img := image(1)
	text := write(t, manifest(len(img)), img, k)
	if again := write(t, manifest(len(img)), img, k); !bytes.Equal(text, again) {
		t.Error("the same slot and key give two different bundles")
	}
	moved := append(random(9, 3*4096), img[:len(img)-3*4096]...) // the running slot has the same at other places
	for name, c := range map[string]struct {
		seed, idle    []byte
		fetch, writes int64 // the most
	}{
		"empty slot, no seed":                 {nil, make([]byte, len(img)), int64(len(text)), 1_110_016},
		"old slot, no seed":                   {nil, image(20), int64(len(text)), 2 << 20},
		"the running slot has all":            {img, make([]byte, len(img)), 0, 1_110_016},
		"the running slot has most, moved":    {moved, make([]byte, len(img)), 100_000, 1_110_016},
		"the idle slot has all":               {nil, bytes.Clone(img), 0, 0},
		"the idle slot is larger":             {nil, append(bytes.Clone(img), 1, 2, 3), 0, 0},
		"the idle slot has one changed block": {nil, append(random(3, 100), img[100:]...), 70_000, 70_000},
		"full of other bytes": {
			image(5), bytes.Repeat([]byte{0xff}, len(img)), int64(len(text)), 2 << 20,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &slot{data: c.idle}
			p, err := install(t, &file{data: text}, trusting(1, k), c.seed, s)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(s.data[:len(img)], img) {
				t.Error("the slot is not what the bundle was made from")
			}
			if p.Fetched > c.fetch || s.written > c.writes || p.Phase != bundle.Verify || p.Done != p.Total {
				t.Errorf("fetched %d, at most %d; wrote %d, at most %d; %+v",
					p.Fetched, c.fetch, s.written, c.writes, p)
			}
		})
	}
}

// TestReadsOfASlot: most of a slot is zeros. An empty one is read once, and what was written once more; the running
// slot is not read any further when all that is wanted was found.
func TestReadsOfASlot(t *testing.T) {
	k := newKey(t, "release")
	img := append(image(1), make([]byte, 6<<20)...)
	text := write(t, manifest(len(img)), img, k)
	seed := &file{data: img}
	b, err := bundle.Open(&file{data: text}, trusting(1, k))
	if err != nil {
		t.Fatal(err)
	}
	s := &slot{data: make([]byte, len(img))}
	if err := b.Install(t.Context(), seed, int64(len(img)), s, nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.data, img) {
		t.Error("the slot is not what the bundle was made from")
	}
	if most := int64(len(img)) + s.written; s.read > most {
		t.Errorf("read %d bytes of the idle slot, at most %d", s.read, most)
	}
	if most := int64(3<<20) + s.written; seed.read > most {
		t.Errorf("read %d bytes of the running slot, at most %d", seed.read, most)
	}
}

func TestManifestOfABundle(t *testing.T) {
	k := newKey(t, "release")
	img := image(1)
	b, err := bundle.Open(&file{data: write(t, manifest(len(img)), img, k)}, trusting(1, k))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(img)
	m := b.Manifest()
	if m.Version != "1.2.3" || m.Slot.SHA256 != hex.EncodeToString(sum[:]) || len(m.Boot) != 1 {
		t.Errorf("Manifest = %+v", m)
	}
	if err := b.Verify(t.Context(), nil); err != nil {
		t.Errorf("Verify: %v", err)
	}
}
