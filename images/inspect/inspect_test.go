package inspect

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/bsp/bootvars"
	"resinos/bsp/slot"
	"resinos/images/assemble"
	"resinos/images/layout"
	"resinos/mounts/disk"
	"resinos/mounts/testenv"
)

// image makes a small image whose slot A holds the given manifest.
func image(t *testing.T, text string) string {
	t.Helper()
	if err := assemble.CheckTools(); err != nil {
		testenv.Lacking(t, "%v", err)
	}
	plan, err := layout.New(layout.Request{File: "f", Partitions: []layout.Wanted{
		{Label: layout.Boot, Size: 36 * disk.MiB}, {Label: layout.RootA, Size: 8 * disk.MiB},
		{Label: layout.RootB, Size: 8 * disk.MiB},
		{Label: layout.State, Size: 16 * disk.MiB}, {Label: layout.Data, Size: 4 * disk.MiB},
	}})
	if err != nil {
		t.Fatal(err)
	}
	tree := func(files map[string]string) *assemble.Tree {
		tree := &assemble.Tree{}
		for name, text := range files {
			if err := tree.Add(assemble.Entry{Path: name, Mode: 0o644, Content: []byte(text)}); err != nil {
				t.Fatal(err)
			}
		}
		return tree
	}
	variables, err := bootvars.UBoot.Encode(bootvars.Variables{Slot: slot.B})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := map[string]string{layout.Boot: filepath.Join(dir, "boot"), layout.RootA: filepath.Join(dir, "a")}
	boot := assemble.FAT{Label: "resin-boot", Volume: 0x1234abcd, Size: 36 * disk.MiB, Epoch: 1767225600}
	if err := boot.Write(t.Context(), files[layout.Boot],
		tree(map[string]string{"device-type.json": `{"slug":"some-board"}`,
			bootvars.UBoot.File(): string(variables)})); err != nil {
		t.Fatal(err)
	}
	root := assemble.Ext4{Label: "resin-rootA", UUID: layout.GUID("x"), Size: 8 * disk.MiB, Epoch: 1767225600}
	if err := root.Write(t.Context(), files[layout.RootA],
		tree(map[string]string{slot.ManifestFile: text})); err != nil {
		t.Fatal(err)
	}
	files[layout.State] = filepath.Join(dir, "state")
	state := assemble.Ext4{Label: "resin-state", UUID: layout.GUID("y"), Size: 16 * disk.MiB, Epoch: 1767225600}
	if err := state.Write(t.Context(), files[layout.State], &assemble.Tree{}); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "image")
	if err := assemble.WriteImage(t.Context(), name, plan, files); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestReport(t *testing.T) {
	r, err := Image(t.Context(), image(t, `{"format":1,"version":"9.9","files":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	text := r.String()
	for _, want := range []string{"board some-board, boots slot B", "resin-data", "slot A: resinOS 9.9",
		"slot B: empty"} {
		if !strings.Contains(text, want) {
			t.Errorf("report lacks %q:\n%s", want, text)
		}
	}
	var back Report
	data, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(data, &back)
	}
	if err != nil || back.Partitions[0].UUID != "1234-ABCD" || back.Partitions[1].Name != "resin-rootA" {
		t.Errorf("as JSON: %v, %+v", err, back)
	}
}

// TestBooted wants it said that an image is one device's.
func TestBooted(t *testing.T) {
	name := image(t, `{"format":1,"version":"9.9","files":[]}`)
	r, err := Image(t.Context(), name)
	if err != nil || r.Booted || strings.Contains(r.String(), "was booted") {
		t.Fatalf("a new image: %+v, %v", r, err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	state := r.Partitions[3]
	if state.Label != layout.State || state.FileSystem != "ext4" {
		t.Fatalf("state: %+v", state)
	}
	_, err = f.WriteAt([]byte{1}, state.Start+1024+0x34) // as the kernel does with the first mount
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if r, err = Image(t.Context(), name); err != nil || !r.Booted || !strings.Contains(r.String(), "was booted") {
		t.Errorf("a booted image: %+v, %v", r, err)
	}
}

// TestBadSlotIsALine wants a broken slot to be told, and the rest of the report to be there.
func TestBadSlotIsALine(t *testing.T) {
	for _, text := range []string{"{", `{"format":7}`} {
		r, err := Image(t.Context(), image(t, text))
		if err != nil {
			t.Fatal(err)
		}
		if r.Slots[0].Fault == "" || r.Slots[0].Manifest != nil ||
			!strings.Contains(r.String(), "slot A: parse manifest.json") {
			t.Errorf("manifest %q: slot = %+v", text, r.Slots[0])
		}
	}
}

func TestNoImage(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string][]byte{"empty": nil, "short": []byte("x"), "noise": bytes.Repeat([]byte{0xA5},
		1<<20)} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Image(t.Context(), file); err == nil {
			t.Errorf("%s passed for an image", name)
		}
	}
	if _, err := Image(t.Context(), filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing file passed for an image")
	}
}

// FuzzUsage feeds anything to the readers of file system heads: whatever they say must fit into the partition.
func FuzzUsage(f *testing.F) {
	ext := make([]byte, 4096)
	copy(ext[1024+0x38:], []byte{0x53, 0xEF})
	ext[1024+4], ext[1024+0xC] = 2, 1
	fat := make([]byte, 4096)
	copy(fat[0x52:], "FAT32   ")
	fat[0x0C], fat[0x0D], fat[0x0E], fat[0x10], fat[0x20], fat[0x24], fat[510], fat[511] = 2, 1, 1, 1, 4, 1, 0x55, 0xAA
	f.Add(ext)
	f.Add(fat)
	f.Fuzz(func(t *testing.T, head []byte) {
		p := Partition{Size: int64(len(head))}
		p.usage(bytes.NewReader(head))
		if p.Used < 0 || p.Free < 0 || p.Used+p.Free > p.Size {
			t.Errorf("used %d, free %d of %d", p.Used, p.Free, p.Size)
		}
	})
}
