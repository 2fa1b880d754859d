package pack_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"resinos/bsp/bundle"
	"resinos/bsp/bundle/index"
	"resinos/bsp/bundle/pack"
)

// recompiled returns a slot as a changed program makes it: the same content, of which every 4 KiB has other addresses,
// behind some new bytes.
func recompiled(old []byte) []byte {
	img := bytes.Clone(old)
	copy(img[300_000:500_000], append(random(77, 1000), old[300_000:499_000]...))
	for at := 300_000; at < 500_000; at += 4 << 10 {
		img[at]++
	}
	return img
}

// writeFrom returns the bundle of a slot with deltas from old ones.
func writeFrom(t *testing.T, img []byte, k key, old ...[]byte) []byte {
	t.Helper()
	var all []pack.Old
	for _, o := range old {
		all = append(all, pack.Old{Version: "1.2.0", Slot: bytes.NewReader(o), Size: int64(len(o))})
	}
	var out bytes.Buffer
	m := manifest(len(img))
	if _, err := pack.Write(&out, m, bytes.NewReader(img), &spool{}, []string{k.private}, all...); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestDelta(t *testing.T) {
	k := newKey(t, "release")
	old, other := image(1), image(30)
	img := recompiled(old)
	plain := writeFrom(t, img, k)
	text := writeFrom(t, img, k, other, old)
	if again := writeFrom(t, img, k, other, old); !bytes.Equal(text, again) {
		t.Error("the same slots and key give two different bundles")
	}
	without, err := install(t, &file{data: plain}, trusting(1, k), old, &slot{data: make([]byte, len(img))})
	if err != nil {
		t.Fatal(err)
	}
	named := bytes.Clone(old) // the device has given its file system another identifier
	copy(named[1000:], "another identifier")
	copy(named[450_000:], "a changed block")
	for name, c := range map[string]struct {
		seed  []byte
		fetch int64 // the most
	}{
		"the old slot":                        {old, without.Fetched / 10},
		"the old slot with another head":      {named, without.Fetched},
		"another slot that is listed":         {other, int64(len(text))},
		"a slot that is not listed":           {image(40), int64(len(text))},
		"no running slot":                     {nil, int64(len(text))},
		"a running slot that ends too early":  {old[:400_000], int64(len(text))},
		"a running slot that has all already": {img, 0},
	} {
		for idleName, idle := range map[string][]byte{
			"empty": make([]byte, len(img)), "full": image(50),
			"begun": append(bytes.Clone(img[:380_000]), image(60)[380_000:]...),
		} {
			s := &slot{data: idle}
			p, err := install(t, &file{data: text}, trusting(1, k), c.seed, s)
			if err != nil || !bytes.Equal(s.data, img) || p.Fetched > c.fetch {
				t.Errorf("%s, idle slot %s: %v; fetched %d, at most %d, %d without a delta",
					name, idleName, err, p.Fetched, c.fetch, without.Fetched)
			}
		}
	}
}

// TestDeltaDamaged flips and cuts bytes of deltas: the slot is right, or nothing is written and the error says why.
func TestDeltaDamaged(t *testing.T) {
	k := newKey(t, "release")
	old := image(1)
	img := recompiled(old)
	text := writeFrom(t, img, k, old)
	opened, err := bundle.Open(&file{data: text}, trusting(1, k))
	if err != nil {
		t.Fatal(err)
	}
	d := opened.Manifest().Deltas[0]
	begin := len(text) - int(d.Index.Size+d.Data)
	dice := rand.New(rand.NewPCG(3, 4))
	refused := 0
	for range 60 {
		at := begin + dice.IntN(len(text)-begin)
		bad := bytes.Clone(text)
		bad[at] ^= byte(1 + dice.IntN(255))
		s := &slot{data: make([]byte, len(img))}
		_, err := install(t, &file{data: bad}, trusting(1, k), old, s)
		switch {
		case err == nil && bytes.Equal(s.data, img):
		case err != nil && s.writes == 0 && strings.Contains(err.Error(), "read delta of the bundle"):
			refused++
		default:
			t.Errorf("byte %d of the delta: %v, %d writes", at-begin, err, s.writes)
		}
	}
	if refused == 0 {
		t.Error("no damage of the list was tried")
	}
	if _, err := install(t, &file{data: text[:len(text)-1]}, trusting(1, k), old, &slot{}); err == nil {
		t.Error("a delta that is cut short was accepted")
	}
	cut := errors.New("connection reset")
	src := &file{data: text, fail: func(at int64) error {
		if at >= int64(begin)+d.Index.Size {
			return cut
		}
		return nil
	}}
	_, err = install(t, src, trusting(1, k), old, &slot{data: make([]byte, len(img))})
	if !errors.Is(err, cut) {
		t.Errorf("%v, want %v", err, cut)
	}
}

// TestDeltaManifest signs manifests with wrong deltas.
func TestDeltaManifest(t *testing.T) {
	k := newKey(t, "release")
	text := writeFrom(t, recompiled(image(1)), k, image(1))
	opened, err := bundle.Open(&file{data: text}, trusting(1, k))
	if err != nil {
		t.Fatal(err)
	}
	good := opened.Manifest().Deltas[0]
	for want, change := range map[string]func(*bundle.Delta){
		"0 samples": func(d *bundle.Delta) { d.Samples = nil },
		"sample at -1": func(d *bundle.Delta) {
			d.Samples = []bundle.Sample{{Offset: -1, SHA256: good.Index.SHA256}}
		},
		"sample at 0":              func(d *bundle.Delta) { d.Samples = []bundle.Sample{{}} },
		"list of 0 bytes":          func(d *bundle.Delta) { d.Index.Size = 0 },
		"list of 25 bytes":         func(d *bundle.Delta) { d.Index.Size = index.GroupSize + 1 },
		"list of 24000000 bytes":   func(d *bundle.Delta) { d.Index.Size = 24_000_000 },
		"list of 24 bytes":         func(d *bundle.Delta) { d.Index = bundle.Index{Size: 24, SHA256: "ab"} },
		"data size -1":             func(d *bundle.Delta) { d.Data = -1 },
		"data size 99999999999999": func(d *bundle.Delta) { d.Data = 99_999_999_999_999 },
	} {
		m := opened.Manifest()
		d := good
		change(&d)
		m.Deltas = []bundle.Delta{d}
		text, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		_, err = bundle.ParseManifest(text)
		if err == nil || !strings.Contains(err.Error(), "delta 1, from version \"1.2.0\": "+want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	many := opened.Manifest()
	many.Deltas = make([]bundle.Delta, 33)
	if text, err := many.Encode(); err != nil {
		t.Fatal(err)
	} else if _, err := bundle.ParseManifest(text); err == nil || !strings.Contains(err.Error(), "33 deltas") {
		t.Errorf("33 deltas: %v", err)
	}
}
