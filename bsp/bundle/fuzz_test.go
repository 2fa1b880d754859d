package bundle

import (
	"bytes"
	"strings"
	"testing"

	"resinos/bsp/bundle/index"
)

// FuzzParseManifest: a manifest that is accepted is the same after it was written and read again.
func FuzzParseManifest(f *testing.F) {
	digest := strings.Repeat("ab", 32)
	good, err := Manifest{Format: Format, Board: "qemu-x86_64", Variant: "production", Version: "1.2.3",
		Slot: SlotImage{index.Block, digest}, Index: Index{index.EntrySize, digest}}.Encode()
	if err == nil {
		_, err = ParseManifest(good)
	}
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{string(good), `{"format":99}`, `{"format":2,"slot":{"size":-4096}}`,
		`{"format":2,"rollback_index":4294967296}`, `{}`, `[`, ""} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseManifest(text)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", m, err)
		}
		second, err := ParseManifest(again)
		if err != nil {
			t.Fatalf("%s is refused: %v", again, err)
		}
		if last, err := second.Encode(); !bytes.Equal(last, again) {
			t.Errorf("%s became %s, %v", again, last, err)
		}
	})
}
