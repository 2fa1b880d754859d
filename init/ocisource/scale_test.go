package ocisource

import (
	"bytes"
	crand "crypto/rand"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"resinos/bsp/bundle"
	"resinos/bsp/bundle/httpsource"
	"resinos/bsp/bundle/pack"
	"resinos/bsp/bundle/trust"
	"resinos/containers/pull/pulltest"
	"resinos/mounts/testenv"
)

// TestScale counts what a bundle costs its registry: whole, and for a device that has most of it. docs/scale.md
// multiplies it.
func TestScale(t *testing.T) {
	used := 2 << 20
	if testenv.Figures() {
		used = 12 << 20
	}
	slot := make([]byte, used+4<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(slot[:used]) // never fails
	old := bytes.Clone(slot)
	copy(old[used/2:], make([]byte, used/100)) // a hundredth of it is new
	private, public, err := note.GenerateKey(crand.Reader, "test")
	if err != nil {
		t.Fatal(err)
	}
	m := bundle.Manifest{Board: "b", Variant: "production", Version: "1.2.3", Slot: bundle.SlotImage{
		Size: int64(len(slot))}}
	spool, err := os.CreateTemp(t.TempDir(), "spool")
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	var text bytes.Buffer
	if _, err := pack.Write(&text, m, bytes.NewReader(slot), spool, []string{private}); err != nil {
		t.Fatal(err)
	}
	r, dir := pulltest.New(t), t.TempDir()
	r.Blob("os", "application/json", []byte("{}"))
	blob := r.Blob("os", httpsource.MediaType, text.Bytes())
	r.PutManifest("os", "1", mediaType, manifestOf(httpsource.MediaType, string(blob.Digest), text.Len()))
	name := r.WithTLS(dir, r.Host+"/os:1", time.Now().Add(time.Hour))
	for what, seed := range map[string][]byte{"whole": nil, "delta": old} {
		r.Traffic()
		s, err := Open(t.Context(), name, []string{dir}, quick)
		if err != nil {
			t.Fatal(err)
		}
		b, err := bundle.Open(s, trust.Keys{Threshold: 1, Public: []string{public}})
		if err != nil {
			t.Fatal(err)
		}
		idle, err := os.Create(filepath.Join(t.TempDir(), "idle"))
		if err != nil {
			t.Fatal(err)
		}
		if err := idle.Truncate(int64(len(slot))); err != nil {
			t.Fatal(err)
		}
		if err := b.Install(t.Context(), bytes.NewReader(seed), int64(len(seed)), idle, nil); err != nil {
			t.Fatal(err)
		}
		_ = idle.Close() // Install has read it back
		sum := r.Traffic()
		t.Logf("%s, bundle of %d bytes: %v", what, text.Len(), sum)
		most := int64(text.Len()) + int64(text.Len())/100 + 20_000
		if seed != nil {
			most = int64(used)/100 + 200_000 // chunks at its ends, the index, TLS
		}
		if sum.Sent > most {
			t.Errorf("%s: %v, want at most %d bytes sent", what, sum, most)
		}
	}
}
