package preload

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"resinos/bsp/slot"
	"resinos/images/assemble"
	"resinos/images/build"
	"resinos/images/inspect"
	"resinos/images/layout"
	"resinos/images/ociimage"
	"resinos/mounts/disk"
	"resinos/mounts/testenv"
)

// archive writes an archive with a container image.
func archive(t *testing.T, name, arch string) string {
	t.Helper()
	text, err := ociimage.Image{Name: name, Arch: arch, Busybox: []byte("busybox\x00sh\x00"), Epoch: 1,
		Applets: []string{"sh"}}.Archive()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	write(t, file, text, time.Now())
	return file
}

// needTools skips a test that the host cannot run.
func needTools(t *testing.T) {
	t.Helper()
	if err := assemble.CheckTools(); err != nil {
		testenv.Lacking(t, "%v", err)
	}
}

func write(t *testing.T, file string, content []byte, when time.Time) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = os.WriteFile(file, content, 0o644)
	}
	if err == nil {
		err = os.Chtimes(file, when, when)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// diskImage is a small disk image with the partitions of a real one, and an app in resin-data.
func diskImage(t *testing.T) string {
	t.Helper()
	text, err := slot.Manifest{Format: slot.ManifestFormat, Arch: "amd64", Epoch: epoch}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	trees := map[string]*assemble.Tree{layout.Boot: {}, layout.RootA: {}, layout.State: {}, layout.Data: {}}
	for _, e := range []struct {
		label string
		assemble.Entry
	}{
		{layout.Boot, assemble.Entry{Path: "config.json", Mode: 0o644, Content: []byte("{}")}},
		{layout.RootA, assemble.Entry{Path: slot.ManifestFile, Mode: 0o644, Content: text}},
		{layout.State, assemble.Entry{Path: "root-overlay/x", Mode: 0o600, Content: []byte("x")}},
		{layout.Data, assemble.Entry{Path: "apps/hello/compose.yaml", Mode: 0o644, Content: []byte("hello")}},
		{layout.Data, assemble.Entry{Path: "remove_me_to_reset", Mode: 0o600}},
	} {
		if err := trees[e.label].Add(e.Entry); err != nil {
			t.Fatal(err)
		}
	}
	r := layout.Request{File: "test"}
	for label, size := range map[string]disk.Bytes{
		layout.Boot: 40, layout.RootA: 16, layout.RootB: 16, layout.State: 64, layout.Data: 96,
	} {
		r.Partitions = append(r.Partitions, layout.Wanted{Label: label, Size: size * disk.MiB})
	}
	place := []string{layout.Boot, layout.RootA, layout.RootB, layout.State, layout.Data}
	slices.SortFunc(r.Partitions, func(a, b layout.Wanted) int {
		return slices.Index(place, a.Label) - slices.Index(place, b.Label)
	})
	plan, err := layout.New(r)
	if err != nil {
		t.Fatal(err)
	}
	dir, files := t.TempDir(), map[string]string{}
	for _, p := range plan.Partitions {
		file := filepath.Join(dir, p.Label)
		switch p.Label {
		case layout.RootB:
			continue
		case layout.Boot:
			x := assemble.FAT{Label: p.Label, Volume: 1, Size: p.Size, Epoch: epoch}
			err = x.Write(t.Context(), file, trees[p.Label])
		default:
			x := build.DataFileSystem(p.Size, epoch)
			if p.Label == layout.RootA {
				x = assemble.Ext4{Size: p.Size, Epoch: epoch}
			}
			x.Label, x.UUID = p.Label, p.UUID
			err = x.Write(t.Context(), file, trees[p.Label])
		}
		if err != nil {
			t.Fatal(err)
		}
		files[p.Label] = file
	}
	image := filepath.Join(dir, "built.img")
	if err := assemble.WriteImage(t.Context(), image, plan, files); err != nil {
		t.Fatal(err)
	}
	return image
}

const epoch = 1767225600

func digestOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// TestRun: what is added to an image that is built is there beside what was there, the other partitions are the same,
// and the same inputs give the same bytes.
func TestRun(t *testing.T) {
	needTools(t)
	built := diskImage(t)
	app := filepath.Join(t.TempDir(), "Sensor")
	write(t, filepath.Join(app, "compose.yaml"), []byte("services: {a: {image: x}}\n"), time.Now())
	items := []string{archive(t, "shop/web:1", "amd64"), app}
	var outs []string
	for _, name := range []string{"one.img", "two.img"} {
		out := filepath.Join(t.TempDir(), name)
		if err := Run(t.Context(), Options{Image: built, Output: out, Items: items}); err != nil {
			t.Fatal(err)
		}
		outs = append(outs, out)
	}
	if digestOf(t, outs[0]) != digestOf(t, outs[1]) {
		t.Error("two runs differ")
	}
	old, err := assemble.ReadTable(built)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := assemble.ReadTable(outs[0])
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range plan.Partitions {
		if same := p.GUID == old.Partitions[i].GUID; same == (p.Label == layout.Data) {
			t.Errorf("%s: %s was %s", p.Label, p.GUID, old.Partitions[i].GUID)
		}
		if p.Label == layout.Data {
			continue
		}
		for n, image := range []string{built, outs[0]} {
			part := filepath.Join(t.TempDir(), "part")
			if err := assemble.ExtractPartition(t.Context(), image, p, part); err != nil {
				t.Fatal(err)
			}
			if digest := digestOf(t, part); n == 0 {
				old.GUID = digest
			} else if digest != old.GUID {
				t.Errorf("%s has changed", p.Label)
			}
		}
	}
	data, _ := plan.Partition(layout.Data)
	for name, want := range map[string]string{
		"apps/sensor/compose.yaml": "services: {a: {image: x}}", "apps/hello/compose.yaml": "hello",
		"images/docker.io_shop_web_1.tar": "index.json",
	} {
		text, err := assemble.ReadExt4File(t.Context(), outs[0], data.Start, "/"+name)
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
	}
	r, err := inspect.Image(t.Context(), outs[0])
	if err != nil || r.Booted {
		t.Errorf("%+v, %v", r, err)
	}
	t.Run("in place", func(t *testing.T) {
		if err := Run(t.Context(), Options{Image: outs[0], Output: outs[0], Items: items}); err != nil {
			t.Fatal(err)
		}
		text, err := assemble.ReadExt4File(t.Context(), outs[0], data.Start, "/apps/hello/compose.yaml")
		if err != nil {
			t.Errorf("%d bytes, %v", len(text), err)
		}
	})
	t.Run("faults", func(t *testing.T) { preloadFaults(t, built) })
}

func preloadFaults(t *testing.T, image string) {
	before := digestOf(t, image)
	garbage := filepath.Join(t.TempDir(), "x.tar")
	write(t, garbage, []byte(strings.Repeat("x", 2000)), time.Now())
	empty := t.TempDir()
	web := archive(t, "shop/web:1", "amd64")
	for want, items := range map[string][]string{
		"is for arm64, and the disk image is for amd64": {archive(t, "shop/web:1", "arm64")},
		"must be a tar file that is not compressed":     {garbage},
		"no such file":                        {filepath.Join(empty, "none.tar")},
		"no compose file: write compose.yaml": {empty},
		"is given twice":                      {web, web},
	} {
		err := Run(t.Context(), Options{Image: image, Output: image, Items: items})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if digestOf(t, image) != before {
		t.Error("a refused preload has changed the image")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(image), ".preload-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	write(t, garbage, make([]byte, 1<<20), time.Now())
	if err := Run(t.Context(), Options{Image: garbage, Output: garbage}); err == nil {
		t.Error("zeros are a disk image")
	}
}
