package powercut

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"resinos/images/powercut/judge"
	"resinos/images/powercut/recording"
	"resinos/images/powercut/recording/recordingtest"
)

// diskOf is a disk of 16 sectors and a log over it, as a recording.
func diskOf(t *testing.T, lines ...recordingtest.Line) (*recording.Recording, []byte) {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	first := bytes.Repeat([]byte("."), 16*recording.SectorSize)
	for name, content := range map[string][]byte{image: first,
		filepath.Join(dir, recording.LogFile): recordingtest.Encode(lines)} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &recording.Recording{Dir: dir, Image: image, Size: 16 * recording.SectorSize}, first
}

// letters are the first bytes of a disk's sectors.
func letters(disk []byte) string {
	var b strings.Builder
	for i := 0; i < len(disk); i += recording.SectorSize {
		b.WriteByte(disk[i])
	}
	return b.String()
}

func TestStates(t *testing.T) {
	r, _ := diskOf(t, recordingtest.At(0, "ab"), recordingtest.Flush(), recordingtest.At(1, "cde"),
		recordingtest.At(3, "f").Flagged(recording.FlagFUA), recordingtest.At(3, "g"), recordingtest.Flush(),
		recordingtest.At(5, "h"))
	for id, want := range map[StateID]string{
		"0p0": "................", "0t0.1": "a...............", "0u0.1": ".b..............", "0p1": "ab..............",
		"1p0": "ab..............", "1p1": "acde............", "1t0.2": "acd.............", "1u0.2": "ab.e............",
		"1p2": "acdf............", "1p3": "acdg............", "1d0": "ab.g............", "1d2": "acdf............",
		"1o2": "ab.g............",
		"1s4": "ab.g............", "1s5": "acdg............", "1s1": "acde............", "2p1": "acdg.h..........",
	} {
		file := filepath.Join(t.TempDir(), "state")
		if err := WriteState(r, id, Effort{}, file); err != nil {
			t.Errorf("WriteState(%s): %v", id, err)
			continue
		}
		got, err := os.ReadFile(file)
		if err != nil || letters(got) != want {
			t.Errorf("state %s is %q, %v, want %q", id, letters(got), err, want)
		}
	}
	for id, want := range map[StateID]string{"": "as check prints it", "3p0": "3 epochs", "1p4": "3 writes",
		"1d3": "3 writes", "1t0": "as check", "xp1": "as check", "1s8": "3 writes"} {
		if err := WriteState(r, id, Effort{}, filepath.Join(t.TempDir(), "state")); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("WriteState(%q) = %v, want %q", id, err, want)
		}
	}
}

// TestShowIsAnyStateAfterAnyOther compares the steps from state to state with making each from the beginning, and the
// sums with the contents, on random logs.
func TestShowIsAnyStateAfterAnyOther(t *testing.T) {
	for seed := range uint64(30) {
		dice := rand.New(rand.NewPCG(seed, 1))
		var lines []recordingtest.Line
		for n := range 24 {
			if dice.IntN(6) == 0 {
				lines = append(lines, recordingtest.Flush())
			}
			sector := dice.Int64N(12)
			lines = append(lines, recordingtest.At(sector, strings.Repeat(string(rune('a'+n)), 1+dice.IntN(4))))
		}
		r, disk := diskOf(t, lines...)
		l, err := r.OpenLog()
		if err != nil {
			t.Fatal(err)
		}
		span := func(start, end int64) []judge.Span {
			return []judge.Span{{Start: start * recording.SectorSize, End: end * recording.SectorSize}}
		}
		regions := []judge.Region{{Name: "low", Ranges: span(0, 8)}, {Name: "high", Ranges: span(8, 16)}}
		s, err := newScratch(r.Image, filepath.Join(r.Dir, "scratch"), r.Size, regions)
		if err != nil {
			t.Fatal(err)
		}
		known := map[sum]string{}
		for number, e := range l.Epochs() {
			v, err := s.view(l, e)
			if err != nil {
				t.Fatal(err)
			}
			var was []piece
			for _, c := range choices(l, number, e,
				Effort{Seed: seed, Subsets: 3, Throws: 5, MostTorn: 9, MostDrops: 9}) {
				if err := v.show(was, c.pieces); err != nil {
					t.Fatal(err)
				}
				was = c.pieces
				want := slices.Clone(disk)
				for _, p := range c.pieces {
					copy(want[v.where[p.write]+p.from*recording.SectorSize:],
						v.data[p.write][p.from*recording.SectorSize:p.to*recording.SectorSize])
				}
				if !bytes.Equal(s.disk, want) {
					t.Fatalf("seed %d, state %s: %q, want %q", seed, c.id, letters(s.disk), letters(want))
				}
				for i, half := range []string{letters(want)[:8], letters(want)[8:]} {
					if old, seen := known[s.sums[i]]; seen && old != half+fmt.Sprint(i) && s.sums[i] != (sum{}) {
						t.Fatalf("seed %d, state %s: %q and %q have one sum", seed, c.id, old, half)
					}
					known[s.sums[i]] = half + fmt.Sprint(i)
				}
			}
			copy(disk, s.disk) // the last state is the whole epoch
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKeeper(t *testing.T) {
	k := keeper{facts: []string{"id"}, since: map[string]string{}}
	for i, c := range []struct {
		id          string
		free, flush bool
		bad         bool
	}{
		{"", false, true, false}, {"1", false, false, false}, {"2", false, false, false}, {"1", false, true, false},
		{"1", false, false, false}, {"", false, false, true}, {"2", false, false, true}, {"", true, true, false},
		{"2", false, true, false}, {"1", false, false, true},
	} {
		facts := map[string]string{}
		if c.id != "" {
			facts["id"] = c.id
		}
		if got := k.see(facts, c.free, c.flush); (len(got) > 0) != c.bad {
			t.Errorf("state %d: %q, bad is %v", i, got, c.bad)
		}
	}
}

// TestEntryBeyondTheDisk: what a damaged log claims is refused before memory is taken for it.
func TestEntryBeyondTheDisk(t *testing.T) {
	l := &recording.Log{Entries: []recording.Entry{{Sector: 1, Sectors: recording.MostSector, Discard: true}}}
	s := &scratch{disk: make([]byte, 1<<20)}
	if _, err := s.view(l, l.Epochs()[0]); err == nil || !strings.Contains(err.Error(), "beyond the disk") {
		t.Errorf("view = %v", err)
	}
}
