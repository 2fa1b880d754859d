package pull

import (
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layer is the progress of one layer.
type Layer struct {
	Digest digest.Digest `json:"digest"`
	Done   int64         `json:"done"`
	Size   int64         `json:"size"`
}

// tally counts the bytes of an attempt.
type tally struct {
	changed func()

	mu      sync.Mutex // guards what follows
	layers  []Layer
	told    time.Time               // when changed was called last
	due     bool                    // changed will be called
	read    int64                   // bytes since moved was called
	started map[digest.Digest]int64 // from which offset a blob is read
}

func newTally(changed func()) *tally {
	return &tally{changed: changed, started: map[digest.Digest]int64{}}
}

// begin starts to count a blob of the image. Only layers are counted, because the other blobs are small.
func (t *tally) begin(desc v1.Descriptor) {
	if images.IsLayerType(desc.MediaType) {
		t.set(desc.Digest, 0, desc.Size)
	}
}

// finish counts a blob as complete, whether it was fetched now or existed.
func (t *tally) finish(desc v1.Descriptor) {
	if images.IsLayerType(desc.MediaType) {
		t.set(desc.Digest, desc.Size, desc.Size)
	}
}

// from records the offset from which a blob is read.
func (t *tally) from(d digest.Digest, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.started[d] = offset
}

// resumed reports whether the blob was not read from its beginning.
func (t *tally) resumed(d digest.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	offset, read := t.started[d]
	return !read || offset > 0
}

// at records that n more bytes of a blob were read, and the new offset.
func (t *tally) at(d digest.Digest, offset int64, n int) {
	t.mu.Lock()
	t.read += int64(n)
	t.mu.Unlock()
	t.set(d, offset, -1)
}

// moved reports whether any bytes were read since its last call.
func (t *tally) moved() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.read
	t.read = 0
	return n > 0
}

func (t *tally) set(d digest.Digest, done, size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.layers {
		if l := &t.layers[i]; l.Digest == d {
			l.Done = min(done, l.Size)
			t.tell()
			return
		}
	}
	if size >= 0 {
		t.layers = append(t.layers, Layer{d, done, size})
		t.tell()
	}
}

// tellEvery is the shortest time between two reports of progress.
const tellEvery = 2 * time.Second

// tell needs mu. Progress too soon after the last report is reported later, so that the last state is always reported.
func (t *tally) tell() {
	if t.due {
		return
	}
	wait := tellEvery - time.Since(t.told)
	if wait <= 0 {
		t.told = time.Now()
		t.changed()
		return
	}
	t.due = true
	time.AfterFunc(wait, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.due, t.told = false, time.Now()
		t.changed()
	})
}

// sum returns the known layers.
func (t *tally) sum() []Layer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Layer(nil), t.layers...)
}
