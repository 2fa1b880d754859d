package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"

	"resinos/containers/pull"
	"resinos/containers/pull/pulltest"
	"resinos/mounts/testenv"
)

func TestMain(m *testing.M) { pulltest.Main(m) }

// device is an engine with a store and pulls.
type device struct {
	*pulltest.Device
	store *Store
	pulls *pull.Pulls
	free  int64
}

// newDevice returns nil in the run of the test outside the namespace.
func newDevice(t *testing.T) *device {
	t.Helper()
	engine := pulltest.NewDevice(t)
	if engine == nil {
		return nil
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	d := &device{Device: engine, free: 1 << 40}
	d.store = &Store{Client: d.Client, Snapshotter: pulltest.Snapshotter, Platform: platforms.Default(), Log: log,
		Space: func() (int64, int64, error) { return d.free, 1 << 40, nil }}
	d.pulls = pull.New(context.Background(), pull.Config{
		Client: d.Client, Snapshotter: pulltest.Snapshotter, Platform: platforms.Default(), Fetcher: d.Fetcher,
		Images: 2, Blobs: 3, Free: func() (int64, error) { return 1 << 40, nil },
		ClockIsRight: func() bool { return true }, Log: log,
	})
	t.Cleanup(d.pulls.Close)
	return d
}

// names lists the images.
func (d *device) names(t *testing.T) []string {
	t.Helper()
	all, _, err := d.store.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, i := range all {
		if i.Size <= 0 {
			t.Errorf("%s has %d bytes", i.Name, i.Size)
		}
		out = append(out, i.Name)
	}
	return out
}

// TestLoad: what the engine writes as an archive (an OCI layout that docker reads too) comes back, compressed or not; a
// load that was cut does not harm the next one, and what is not for this device leaves nothing.
func TestLoad(t *testing.T) {
	d := newDevice(t)
	if d == nil {
		return
	}
	image := d.Registry.Push("load", "1", runtime.GOARCH, pulltest.Layer(t, "x", 100<<10))
	if err := d.pulls.Once(context.Background(), image.Name); err != nil {
		t.Fatal(err)
	}
	client, ctx := d.Client(context.Background())
	var saved bytes.Buffer
	if err := client.Export(ctx, &saved, archive.WithImage(client.ImageService(), image.Name)); err != nil {
		t.Fatal(err)
	}
	remove := func() {
		t.Helper()
		if _, err := d.store.Prune(context.Background(), Need{}, Asked, false); err != nil {
			t.Fatal(err)
		}
		if left := d.names(t); len(left) > 0 {
			t.Fatalf("left: %v", left)
		}
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(saved.Bytes()); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"plain": saved.Bytes(), "gzip": packed.Bytes()} {
		remove()
		if _, err := d.store.Load(context.Background(), bytes.NewReader(data[:len(data)*2/3])); err == nil {
			t.Errorf("%s: two thirds of an archive were taken", name)
		}
		got, err := d.store.Load(context.Background(), bytes.NewReader(data))
		if err != nil || !slices.Equal(got, []string{image.Name}) || !d.There(image.Name) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	got, err := d.store.Load(context.Background(), bytes.NewReader(dockerArchive(t, runtime.GOARCH)))
	if err != nil || len(got) != 1 || !strings.HasSuffix(got[0], "/saved:1") || !d.There(got[0]) {
		t.Errorf("what docker saves: %v, %v", got, err)
	}
	remove()
	if _, err := d.store.Load(context.Background(), bytes.NewReader(dockerArchive(t, "s390x"))); err == nil ||
		!strings.Contains(err.Error(), "is for linux/s390x") {
		t.Errorf("an image for another architecture: %v", err)
	}
	for name, text := range map[string]string{"empty": "", "garbage": strings.Repeat("x", 10000)} {
		if got, err := d.store.Load(context.Background(), strings.NewReader(text)); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	if left := d.names(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// dockerArchive is an image as docker save has written it for years.
func dockerArchive(t *testing.T, arch string) []byte {
	t.Helper()
	layer := pulltest.Layer(t, "z", 1000)
	return pulltest.Tar(t, map[string][]byte{
		"config.json": fmt.Appendf(nil, `{"os":"linux","architecture":"%s","rootfs":{"type":"layers",`+
			`"diff_ids":["%s"]}}`, arch, digest.FromBytes(layer)),
		"l/layer.tar":   layer,
		"manifest.json": []byte(`[{"Config":"config.json","RepoTags":["saved:1"],"Layers":["l/layer.tar"]}]`),
	}, 0o644)
}

// TestDamaged: after an unclean end a blob whose bytes have changed is found, and it alone is fetched again.
func TestDamaged(t *testing.T) {
	d := newDevice(t)
	if d == nil {
		return
	}
	a, b := pulltest.Layer(t, "a", 64<<10), pulltest.Layer(t, "b", 64<<10)
	image := d.Registry.Push("damaged", "1", runtime.GOARCH, a, b)
	if err := d.pulls.Once(context.Background(), image.Name); err != nil {
		t.Fatal(err)
	}
	bad, good := image.Layers[1].Digest, image.Layers[0].Digest
	file := filepath.Join(d.Dir, "data/io.containerd.content.v1.content/blobs/sha256", bad.Encoded())
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, make([]byte, image.Layers[1].Size), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := d.store.Check(context.Background()); n != 1 || err != nil {
		t.Fatalf("Check = %d, %v", n, err)
	}
	if d.There(image.Name) {
		t.Error("the image counts as whole")
	}
	_, left, err := d.store.List(context.Background())
	if err != nil || len(left) != 1 || left[0].Image != image.Name || left[0].Size < image.Layers[0].Size {
		t.Errorf("left over: %+v, %v", left, err)
	}
	d.pulls.Want([]string{image.Name})
	testenv.WaitFor(t, "the image", func() bool { return d.There(image.Name) })
	if a, b := d.Registry.Gets(good), d.Registry.Gets(bad); a != 1 || b != 2 {
		t.Errorf("the good layer was fetched %d times, the bad one %d times", a, b)
	}
	if n, err := d.store.Check(context.Background()); n != 0 || err != nil {
		t.Errorf("the second Check = %d, %v", n, err)
	}
}

// TestPrune: what is needed stays, and what a pull has left is found and goes.
func TestPrune(t *testing.T) {
	d := newDevice(t)
	if d == nil {
		return
	}
	a := d.Registry.Push("a", "1", runtime.GOARCH, pulltest.Layer(t, "a", 1000))
	b := d.Registry.Push("b", "1", runtime.GOARCH, pulltest.Layer(t, "b", 1000))
	client, ctx := d.Client(context.Background())
	for _, i := range []pulltest.Image{a, b} {
		if err := d.pulls.Once(context.Background(), i.Name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pull.Hold(ctx, client, "gone.invalid/x:1"); err != nil {
		t.Fatal(err)
	}
	planned, err := d.store.Prune(context.Background(), Need{Images: []string{a.Name}}, Asked, true)
	if err != nil || len(planned) != 2 || !d.There(b.Name) {
		t.Errorf("dry: %+v, %v", planned, err)
	}
	if _, err := d.store.Prune(context.Background(), Need{Images: []string{a.Name}}, Asked, false); err != nil {
		t.Fatal(err)
	}
	_, left, err := d.store.List(context.Background())
	if got := d.names(t); !slices.Equal(got, []string{a.Name}) || !d.There(a.Name) || len(left) > 0 || err != nil {
		t.Errorf("left: %v, %v, %v", got, left, err)
	}
}

func TestPlan(t *testing.T) {
	now := time.Unix(1e9, 0)
	at := func(ago time.Duration) time.Time { return now.Add(-ago) }
	have := []Image{{"new", "", 10, at(time.Minute)}, {"old", "", 10, at(3 * time.Hour)},
		{"older", "", 12, at(5 * time.Hour)},
		{"used", "", 10, at(9 * time.Hour)}, {"future", "", 10, at(-time.Hour)}}
	left := []Leftover{{"half", 5, at(2 * time.Hour), "l1"}, {"wanted", 5, at(2 * time.Hour), "l2"},
		{"young", 5, at(0), "l3"}}
	need := Need{Images: []string{"used", "wanted"}}
	for name, c := range map[string]struct {
		need Need
		free int64
		by   Reason
		want string
	}{
		"room":              {need, 50, "", "half"},
		"nearly full":       {need, 4, "", "half older"},
		"full":              {need, 0, "", "half older old"},
		"asked":             {need, 99, Asked, "half young older old new future"},
		"an app unreadable": {Need{Unsure: true}, 0, Asked, ""},
	} {
		var got []string
		for _, r := range Plan(have, left, c.need, c.free, 100, now, c.by) {
			got = append(got, r.Image)
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %s, want %s", name, text, c.want)
		}
	}
}
