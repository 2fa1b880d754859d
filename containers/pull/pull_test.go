package pull

import (
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"resinos/containers/pull/pulltest"
)

// layers are some of a size that a cut can hit.
func layers(t *testing.T, name string, n, size int) [][]byte {
	var out [][]byte
	for i := range n {
		out = append(out, pulltest.Layer(t, name+string(rune('a'+i)), size))
	}
	return out
}

// TestPull: by tag and by digest, two images at once that share a layer, which is fetched once.
func TestPull(t *testing.T) {
	d := newDevice(t)
	if d == nil {
		return
	}
	all := layers(t, "x", 3, 1<<20)
	one := d.registry.Push("one", "1", runtime.GOARCH, all[0], all[1])
	two := d.registry.Push("two", "1", runtime.GOARCH, all[0], all[2])
	byDigest := d.registry.Host + "/two@" + two.Manifest.String()
	d.pulls.Want([]string{one.Name, two.Name, byDigest})
	d.pulled(one.Name, two.Name, byDigest)
	for _, l := range append(one.Layers, two.Layers...) {
		want := l.Size
		if l.Digest == one.Layers[0].Digest {
			want = d.registry.Sent(l.Digest) // of two repositories: at most once of each
			if want > 2*l.Size {
				t.Errorf("the shared layer: %d bytes of %d", want, l.Size)
			}
		}
		if got := d.registry.Sent(l.Digest); got != want {
			t.Errorf("layer %s: %d bytes of %d", l.Digest, got, l.Size)
		}
	}
	left, err := d.client.LeasesService().List(d.ctx())
	if err != nil || len(left) > 0 {
		t.Errorf("leases left: %v, %v", left, err)
	}
}

// TestCuts: pulls that are cut at 30 places all come to an end, and no layer that was whole is fetched again.
func TestCuts(t *testing.T) {
	d := newDevice(t)
	if d == nil {
		return
	}
	const size = 600 << 10
	image := d.registry.Push("cut", "1", runtime.GOARCH, layers(t, "cut", 3, size)...)
	var mu sync.Mutex
	cuts := 0
	d.registry.Cut(func(r *http.Request) int64 {
		mu.Lock()
		defer mu.Unlock()
		if cuts >= 30 || !strings.Contains(r.URL.Path, "/blobs/") {
			return -1
		}
		cuts++
		return rand.Int64N(size / 8)
	})
	d.pulls.Want([]string{image.Name})
	d.pulled(image.Name)
	if cuts < 30 {
		t.Errorf("%d cuts", cuts)
	}
	for _, l := range image.Layers {
		// what was on the line when it was cut may be lost
		if got, most := d.registry.Sent(l.Digest), l.Size+l.Size/2; got < l.Size || got > most {
			t.Errorf("layer of %d bytes: %d were sent in %d requests", l.Size, got, d.registry.Gets(l.Digest))
		}
	}
}

// TestEngineDies: kill -9 of the engine in the middle of a pull, again and again; what was fetched is not fetched
// again.
func TestEngineDies(t *testing.T) {
	d := newDevice(t)
	if d == nil {
		return
	}
	const size = 1 << 20
	image := d.registry.Push("dies", "1", runtime.GOARCH, layers(t, "dies", 2, size)...)
	hit := make(chan struct{}, 100)
	var mu sync.Mutex
	deaths := 0
	d.registry.Cut(func(r *http.Request) int64 {
		mu.Lock()
		defer mu.Unlock()
		if deaths < 5 && strings.Contains(r.URL.Path, "/blobs/") {
			deaths++
			hit <- struct{}{}
			return size / 4
		}
		return -1
	})
	d.pulls.Want([]string{image.Name})
	for range 5 {
		<-hit
		d.kill()
		d.start()
	}
	d.pulled(image.Name)
}

// TestOtherArchitecture: nothing of its layers is fetched, and the fault says what to do.
func TestOtherArchitecture(t *testing.T) {
	d := newDevice(t)
	if d == nil {
		return
	}
	single := d.registry.Push("single", "1", "s390x", layers(t, "s", 1, 1000)...)
	inner := d.registry.Push("inner", "1", "ppc64le", layers(t, "i", 1, 1000)...)
	index := []byte(`{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","manifests":[{"mediaType":"` +
		v1.MediaTypeImageManifest + `","digest":"` + inner.Manifest.String() + `","size":` +
		"SIZE" + `,"platform":{"os":"linux","architecture":"ppc64le"}}]}`)
	index = []byte(strings.Replace(string(index), "SIZE", d.registry.SizeOf("inner", inner.Manifest), 1))
	d.registry.PutManifest("inner", "all", v1.MediaTypeImageIndex, index)
	all := d.registry.Host + "/inner:all"
	d.pulls.Want([]string{single.Name, all})
	for image, arch := range map[string]string{single.Name: "linux/s390x", all: "linux/ppc64le"} {
		s := d.failed(image)
		if text := s.Err.Error(); s.Cause != Unfit || !strings.Contains(text, arch) ||
			!strings.Contains(text, "--platform linux/"+runtime.GOARCH) {
			t.Errorf("%s: %q, %v", image, s.Cause, s.Err)
		}
	}
	if n := d.registry.Gets(single.Layers[0].Digest); n != 0 {
		t.Errorf("a layer was asked for %d times", n)
	}
}
