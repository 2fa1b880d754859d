package pack_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/bsp/bundle"
)

// TestCut cuts installations at random writes and reads, several times each, and continues them: the slot is right in
// the end, and what was there is not fetched again.
func TestCut(t *testing.T) {
	k := newKey(t, "release")
	img := image(1)
	text := write(t, manifest(len(img)), img, k)
	full, err := install(t, &file{data: text}, trusting(1, k), nil, &slot{data: make([]byte, len(img))})
	if err != nil {
		t.Fatal(err)
	}
	dice := rand.New(rand.NewPCG(1, 2))
	for round := range 60 {
		s := &slot{data: random(uint64(round), len(img))}
		var seed []byte
		if round%3 == 0 {
			seed = append(random(9, 5*4096), img[:1<<20]...)
		}
		fetched, tries := int64(0), 0
		for {
			tries++
			s.writes, s.allowed = 0, 1+dice.IntN(30)
			src := &file{data: text}
			if dice.IntN(2) == 0 {
				reads := 3 + dice.IntN(2)
				src.fail = func(int64) error {
					if reads--; reads < 0 {
						return errors.New("connection reset")
					}
					return nil
				}
			}
			p, err := install(t, src, trusting(1, k), seed, s)
			fetched += p.Fetched
			if err == nil {
				break
			}
			if !errors.Is(err, errCut) && !strings.Contains(err.Error(), "connection reset") {
				t.Fatalf("round %d: %v", round, err)
			}
			if tries > 1000 {
				t.Fatalf("round %d makes no progress", round)
			}
		}
		if !bytes.Equal(s.data, img) {
			t.Errorf("round %d: the slot is wrong after %d tries", round, tries)
		}
		// A cut loses at most what one request has brought.
		if most := full.Fetched + int64(tries)*(1<<20); fetched > most {
			t.Errorf("round %d: fetched %d in %d tries, at most %d", round, fetched, tries, most)
		}
	}
}

// faulty is a slot whose calls fail.
type faulty struct {
	slot
	read, write, sync error
	at                int64 // where reads and writes fail
}

func (f *faulty) ReadAt(p []byte, at int64) (int, error) {
	if f.read != nil && at <= f.at && f.at < at+int64(len(p)) {
		return 0, f.read
	}
	return f.slot.ReadAt(p, at)
}

func (f *faulty) WriteAt(p []byte, at int64) (int, error) {
	if f.write != nil && at <= f.at && f.at < at+int64(len(p)) {
		return 0, f.write
	}
	return f.slot.WriteAt(p, at)
}

func (f *faulty) Sync() error { return f.sync }

func TestFaultyDisk(t *testing.T) {
	k := newKey(t, "release")
	img := image(1)
	b, err := bundle.Open(&file{data: write(t, manifest(len(img)), img, k)}, trusting(1, k))
	if err != nil {
		t.Fatal(err)
	}
	empty := func() slot { return slot{data: make([]byte, len(img))} }
	for name, c := range map[string]struct {
		slot   *faulty
		want   string
		writes bool // some are allowed
	}{
		"write error":     {&faulty{slot: empty(), write: unix.EIO, at: 300_000}, "input/output error", true},
		"no space":        {&faulty{slot: empty(), write: unix.ENOSPC}, "no space left", true},
		"sync error":      {&faulty{slot: empty(), sync: unix.EIO}, "write idle slot: input/output error", true},
		"lost writes":     {&faulty{slot: slot{data: make([]byte, len(img)), lie: true}}, "at 0 it is not", true},
		"unreadable":      {&faulty{slot: empty(), read: unix.EIO, at: 300_000}, "read idle slot back", true},
		"too small":       {&faulty{slot: slot{data: make([]byte, len(img)-4096)}}, "too small", false},
		"much too small":  {&faulty{slot: slot{data: nil}}, "too small", false},
		"unreadable zero": {&faulty{slot: empty(), read: unix.EIO, at: 2<<20 - 1}, "read idle slot back", true},
	} {
		err := b.Install(t.Context(), nil, 0, c.slot, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if !c.writes && c.slot.writes > 0 {
			t.Errorf("%s: %d writes", name, c.slot.writes)
		}
	}
}

// badSeed is a running slot of which a part cannot be read, or changes after it was compared.
type badSeed struct {
	data  []byte
	bad   int64 // cannot be read
	reads int   // after so many, everything is different
}

func (s *badSeed) ReadAt(p []byte, at int64) (int, error) {
	if s.reads--; s.reads < 0 {
		return copy(p, bytes.Repeat([]byte{1}, len(p))), nil
	}
	if at <= s.bad && s.bad < at+int64(len(p)) {
		return 0, unix.EIO
	}
	return bytes.NewReader(s.data).ReadAt(p, at)
}

// TestBadSeed fetches what the running slot does not give.
func TestBadSeed(t *testing.T) {
	k := newKey(t, "release")
	img := image(1)
	text := write(t, manifest(len(img)), img, k)
	for name, seed := range map[string]*badSeed{
		"unreadable at the start":  {img, 0, 1 << 30},
		"unreadable in the middle": {img, 100_000, 1 << 30},
		"unreadable at the end":    {img, int64(len(img) - 1), 1 << 30},
		"changes":                  {img, -1, 12},
		"shorter than it says":     {img[:500_000], -1, 1 << 30},
	} {
		b, err := bundle.Open(&file{data: text}, trusting(1, k))
		if err != nil {
			t.Fatal(err)
		}
		s := &slot{data: make([]byte, len(img))}
		if err := b.Install(t.Context(), seed, int64(len(img)), s, nil); err != nil || !bytes.Equal(s.data, img) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCancel ends an installation in each phase.
func TestCancel(t *testing.T) {
	k := newKey(t, "release")
	img := image(1)
	b, err := bundle.Open(&file{data: write(t, manifest(len(img)), img, k)}, trusting(1, k))
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("the owner wants to stop")
	for _, phase := range []bundle.Phase{bundle.Compare, bundle.Write, bundle.Verify} {
		ctx, cancel := context.WithCancelCause(t.Context())
		s := &slot{data: make([]byte, len(img))}
		err := b.Install(ctx, io.NewSectionReader(bytes.NewReader(img), 0, 1<<20), 1<<20, s, func(p bundle.Progress) {
			if p.Phase == phase {
				cancel(stop)
			}
		})
		if !errors.Is(err, stop) {
			t.Errorf("%s: %v, want %v", phase, err, stop)
		}
	}
}
