package pull

import (
	"math/rand/v2"
	"net/http"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"resinos/containers/fetcher"
	"resinos/containers/pull/pulltest"
	"resinos/mounts/testenv"
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
	left, err := d.client.LeasesService().List(d.Ctx())
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
		d.Kill()
		d.Start()
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

// TestLyingRegistry: a blob whose bytes are not those of its digest never gets into the store, and is asked for seldom.
// What came of a layer that was cut is given up when the rest does not fit to it.
func TestLyingRegistry(t *testing.T) {
	d := newDevice(t)
	if d == nil {
		return
	}
	image := d.registry.Push("lies", "1", runtime.GOARCH, layers(t, "lies", 2, 100<<10)...)
	var mu sync.Mutex
	lies, cut, ranges := 3, true, 0
	d.registry.Answer(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case !strings.HasSuffix(r.URL.Path, image.Layers[1].Digest.String()):
			return false
		case cut: // half of it is right
			cut = false
			return false
		case r.Header.Get("Range") != "":
			ranges++
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return true
		case lies > 0:
			lies--
			_, _ = w.Write(make([]byte, image.Layers[1].Size))
			return true
		}
		return false
	})
	d.registry.Cut(func(r *http.Request) int64 {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasSuffix(r.URL.Path, image.Layers[1].Digest.String()) && r.Header.Get("Range") == "" && lies == 3 {
			return 50 << 10
		}
		return -1
	})
	d.pulls.Want([]string{image.Name})
	d.pulled(image.Name)
	if mu.Lock(); lies != 0 || ranges == 0 {
		t.Errorf("%d lies left, %d ranges", lies, ranges)
	}
	mu.Unlock()
	for _, want := range []string{"other bytes than it promised", "416"} {
		if text := d.log.String(); !strings.Contains(text, want) {
			t.Errorf("the pulls do not say %q:\n%s", want, text)
		}
	}
}

// TestClock: a certificate that is not valid at the time of the device waits for the time.
func TestClock(t *testing.T) {
	d := newDevice(t)
	if d == nil {
		return
	}
	image := d.registry.Push("clock", "1", runtime.GOARCH, layers(t, "clock", 1, 1000)...)
	d.set(func() { d.right = false })
	name := d.registry.WithExpiredTLS(d.Dir, image.Name)
	d.pulls.c.Delay = func(Cause, int) time.Duration { return time.Hour }
	d.pulls.Want([]string{name})
	if s := d.failed(name); s.Cause != Cause(fetcher.Clock) {
		t.Errorf("cause %q: %v", s.Cause, s.Err)
	}
	d.set(func() { d.right = true })
	testenv.WaitFor(t, "another attempt", func() bool { return strings.Count(d.log.String(), "not pulled") > 1 })
}

// TestClockMeanwhile: the time comes while an attempt fails for it, and the next attempt does not wait for another.
func TestClockMeanwhile(t *testing.T) {
	d := newDevice(t)
	if d == nil {
		return
	}
	image := d.registry.Push("clock", "1", runtime.GOARCH, layers(t, "clock", 1, 1000)...)
	d.set(func() { d.right = false })
	name := d.registry.WithExpiredTLS(d.Dir, image.Name)
	d.pulls.c.Delay = func(Cause, int) time.Duration { // the attempt has failed, and nobody waits yet
		d.set(func() { d.right = true })
		return time.Hour
	}
	d.pulls.Want([]string{name})
	testenv.WaitFor(t, "another attempt", func() bool { return strings.Count(d.log.String(), "not pulled") > 1 })
}

// TestDiskFull: an image that does not fit is not begun; one that fills the disk all the same is dropped as a whole,
// and the engine and its other images work on.
func TestDiskFull(t *testing.T) {
	d := newDevice(t)
	if d == nil {
		return
	}
	image := d.registry.Push("full", "1", runtime.GOARCH, layers(t, "full", 2, 6<<20)...)
	small := d.registry.Push("small", "1", runtime.GOARCH, layers(t, "small", 1, 1<<20)...)
	d.Kill()
	if err := unix.Mount("data", filepath.Join(d.Dir, "data"), "tmpfs", 0, "size=11m"); err != nil {
		t.Fatal(err)
	}
	d.Start()
	d.pulls.Want([]string{small.Name})
	d.pulled(small.Name)
	d.set(func() { d.free = 40 << 20 })
	d.pulls.Want([]string{image.Name})
	if s := d.failed(image.Name); s.Cause != NoSpace || !strings.Contains(s.Err.Error(), "13 MB are to be fetched") {
		t.Errorf("%q: %v", s.Cause, s.Err)
	}
	if n := d.registry.Gets(image.Layers[0].Digest); n != 0 {
		t.Errorf("a layer was asked for %d times", n)
	}
	d.pulls.Want(nil)
	d.set(func() { d.free = 1 << 40 })
	d.pulls.c.Delay = func(Cause, int) time.Duration { return time.Hour }
	d.pulls.Want([]string{image.Name})
	if s := d.failed(image.Name); s.Cause != NoSpace {
		t.Errorf("%q: %v", s.Cause, s.Err)
	}
	testenv.WaitFor(t, "room", func() bool {
		var fs unix.Statfs_t
		return unix.Statfs(filepath.Join(d.Dir, "data"), &fs) == nil && int64(fs.Bavail)*fs.Bsize > 7<<20
	})
	if !d.There(small.Name) {
		t.Error("the small image has gone")
	}
}

// TestNotWanted: a pull that is not wanted any more ends at once, and nothing of it stays.
func TestNotWanted(t *testing.T) {
	d := newDevice(t)
	if d == nil {
		return
	}
	image := d.registry.Push("gone", "1", runtime.GOARCH, layers(t, "gone", 2, 1<<20)...)
	asked, wait := make(chan struct{}, 10), make(chan struct{})
	t.Cleanup(func() { close(wait) })
	d.registry.Answer(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, image.Layers[1].Digest.String()) {
			asked <- struct{}{}
			<-wait // the registry hangs
		}
		return false
	})
	d.pulls.Want([]string{image.Name})
	testenv.Receive(t, "a request for the layer", asked)
	d.pulls.Want(nil)
	testenv.WaitFor(t, "nothing in the store", func() bool {
		n := 0
		err := d.client.ContentStore().Walk(d.Ctx(), func(content.Info) error { n++; return nil })
		ingests, e := d.client.ContentStore().ListStatuses(d.Ctx())
		return err == nil && e == nil && n == 0 && len(ingests) == 0
	})
}

// TestAtOnce: no more images and blobs are on their way than may be, and two layers are: the registry keeps the first
// until it is asked for the second.
func TestAtOnce(t *testing.T) {
	d := newDevice(t)
	if d == nil {
		return
	}
	var mu sync.Mutex
	now, most := map[string]int{}, map[string]int{}
	layer, asked, second := map[string]bool{}, 0, make(chan struct{})
	d.registry.Answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet {
			return false
		}
		repository := strings.Split(r.URL.Path, "/")[2]
		mu.Lock()
		now["blobs"]++
		now[repository]++
		images := 0
		for name, n := range now {
			if name != "blobs" && n > 0 {
				images++
			}
		}
		most["images"], most["blobs"] = max(most["images"], images), max(most["blobs"], now["blobs"])
		isLayer := layer[path.Base(r.URL.Path)]
		if isLayer {
			if asked++; asked == 2 {
				close(second)
			}
		}
		mu.Unlock()
		if isLayer {
			select {
			case <-second:
			case <-time.After(testenv.Patience()): // the test fails
			}
		}
		d.registry.Serve(w, r)
		mu.Lock()
		now["blobs"]--
		now[repository]--
		mu.Unlock()
		return true
	})
	var all []string
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		image := d.registry.Push(name, "1", runtime.GOARCH, layers(t, name, 6, 300<<10)...)
		all = append(all, image.Name)
		mu.Lock()
		for _, l := range image.Layers {
			layer[l.Digest.String()] = true
		}
		mu.Unlock()
	}
	d.pulls.Want(all)
	d.pulled(all...)
	if most["images"] > DefaultImages || most["blobs"] > DefaultBlobs || most["blobs"] < 2 {
		t.Errorf("at once: %v", most)
	}
}
