package bundler

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"resinos/bsp/bundle"
	"resinos/bsp/bundle/httpsource"
	"resinos/bsp/slot"
	"resinos/images/assemble"
	"resinos/images/keyring"
	"resinos/images/layout"
	"resinos/mounts/disk"
	"resinos/mounts/fingerprint"
	"resinos/mounts/testenv"
)

// newImage builds a disk image whose slot A has a root with this content.
func newImage(t *testing.T, root []byte) string {
	t.Helper()
	if err := assemble.CheckTools(); err != nil {
		testenv.Lacking(t, "%v", err)
	}
	dir := t.TempDir()
	m := slot.Manifest{Format: 1, Version: "1.2.3", Board: "toaster", Variant: "production"}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	grub := []byte("set timeout=0\n")
	sum, err := fingerprint.Of(bytes.NewReader(grub))
	if err != nil {
		t.Fatal(err)
	}
	trees := map[string]map[string][]byte{
		layout.RootA: {slot.ManifestFile: text, slot.Root: root},
		layout.Boot: {
			"EFI/debian/grub.cfg": grub, "config.json": []byte("{}"),
			fingerprint.Name: fingerprint.Print([]fingerprint.Line{{Path: "EFI/debian/grub.cfg", Sum: sum}}),
		},
	}
	r := layout.Request{File: "toaster.toml", Contents: map[string]layout.Content{}}
	for _, label := range []string{layout.Boot, layout.RootA, layout.RootB, layout.State, layout.Data} {
		r.Partitions = append(r.Partitions, layout.Wanted{Label: label, Size: 36 * disk.MiB})
	}
	plan, err := layout.New(r)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, p := range plan.Partitions {
		tree := &assemble.Tree{}
		for name, content := range trees[p.Label] {
			if err := tree.Add(assemble.Entry{Path: name, Mode: 0o644, Content: content}); err != nil {
				t.Fatal(err)
			}
		}
		files[p.Label] = filepath.Join(dir, p.Label)
		switch p.Label {
		case layout.Boot:
			err = assemble.FAT{Label: p.Label, Size: p.Size, Epoch: 1767225600}.Write(t.Context(), files[p.Label], tree)
		case layout.RootB:
			delete(files, p.Label)
		default:
			x := assemble.Ext4{Label: p.Label, UUID: p.UUID, Size: p.Size, Epoch: 1767225600}
			err = x.Write(t.Context(), files[p.Label], tree)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(dir, "disk.img")
	if err := assemble.WriteImage(t.Context(), image, plan, files); err != nil {
		t.Fatal(err)
	}
	return image
}

// newKeys returns private keys.
func newKeys(t *testing.T, names ...string) []string {
	t.Helper()
	ring := keyring.Ring{Dir: t.TempDir()}
	for _, name := range names {
		var err error
		if ring, err = ring.Create(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := ring.Save(); err != nil {
		t.Fatal(err)
	}
	keys, err := keyring.ReadAll([]string{ring.Dir})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func TestMake(t *testing.T) {
	root := random(1, 3<<20)
	image, keys := newImage(t, root), newKeys(t, "a", "b")
	o := Options{Image: image, Output: image + ".bundle", Keys: keys, MinFrom: "1.0.0", RollbackIndex: 4}
	m, err := Make(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if m.Board != "toaster" || m.Variant != "production" || m.Version != "1.2.3" || m.MinFrom != "1.0.0" ||
		m.RollbackIndex != 4 {
		t.Errorf("Make = %+v", m)
	}
	sum := sha256.Sum256([]byte("set timeout=0\n"))
	if len(m.Boot) != 1 || m.Boot[0].Name != "EFI/debian/grub.cfg" || m.Boot[0].SHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("boot files %+v", m.Boot)
	}
	first, err := os.ReadFile(o.Output)
	if err != nil {
		t.Fatal(err)
	}
	o.Output += "2"
	if _, err := Make(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if second, err := os.ReadFile(o.Output); err != nil || !bytes.Equal(first, second) {
		t.Errorf("the second bundle of the same image differs: %v", err)
	}
	// Another root, of which a page in the middle has changed: a device fetches little.
	copy(root[1<<20:], random(2, 4096))
	o.Image, o.Output = newImage(t, root), image+"3.bundle"
	if _, err := Make(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	d, err := Compare(t.Context(), o.Output, image, keys)
	if err != nil || d.Fetched > 300_000 {
		t.Errorf("Compare = %+v, %v", d, err)
	}
}

func TestMakeFaults(t *testing.T) {
	keys := newKeys(t, "a")
	none := filepath.Join(t.TempDir(), "none.img")
	if err := os.WriteFile(none, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	good := newImage(t, []byte("root"))
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"no key":         {Options{Image: good}, "--key"},
		"no image":       {Options{Image: "/no/such", Keys: keys}, "/no/such"},
		"not an image":   {Options{Image: none, Keys: keys}, "partition table"},
		"bad min-from":   {Options{Image: good, Keys: keys, MinFrom: "yesterday"}, "min_from"},
		"negative index": {Options{Image: good, Keys: keys, RollbackIndex: -1}, "rollback index"},
		"not a key":      {Options{Image: good, Keys: []string{"hello"}}, "resin keys new"},
	} {
		c.o.Output = filepath.Join(t.TempDir(), "out")
		if _, err := Make(t.Context(), c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if left, err := os.ReadDir(filepath.Dir(c.o.Output)); err != nil || len(left) != 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}

// TestWriteOCI follows the layout from the index to the bundle, and compares every digest and size.
func TestWriteOCI(t *testing.T) {
	image, dir := newImage(t, random(1, 100_000)), t.TempDir()
	o := Options{Image: image, Output: image + ".bundle", Keys: newKeys(t, "a")}
	m, err := Make(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteOCI(dir, o.Output, m); err != nil {
		t.Fatal(err)
	}
	read := func(d v1.Descriptor) []byte {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, "blobs/sha256", d.Digest.Encoded()))
		if err != nil || int64(len(text)) != d.Size || d.Digest.Algorithm().FromBytes(text) != d.Digest {
			t.Fatalf("blob %+v: %d bytes, %v", d, len(text), err)
		}
		return text
	}
	text, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index v1.Index
	var top v1.Manifest
	if err := json.Unmarshal(text, &index); err != nil || len(index.Manifests) != 1 {
		t.Fatalf("index %s, %v", text, err)
	}
	if err := json.Unmarshal(read(index.Manifests[0]), &top); err != nil || top.ArtifactType != httpsource.MediaType {
		t.Fatalf("manifest %+v, %v", top, err)
	}
	if got, err := bundle.ParseManifest(read(top.Config)); err != nil || got.Slot != m.Slot {
		t.Errorf("configuration %+v, %v", got, err)
	}
	want, err := os.ReadFile(o.Output)
	if err != nil || len(top.Layers) != 1 || !bytes.Equal(read(top.Layers[0]), want) {
		t.Errorf("layers %+v, %v", top.Layers, err)
	}
}
