package powercut

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"resinos/mounts/fat"
	"resinos/mounts/testenv"
)

// A line is one entry of a log that a test writes.
type line struct {
	flags  uint64
	sector int64
	data   []byte
}

func flush() line                          { return line{flags: flagFlush} }
func at(sector int64, content string) line { return line{sector: sector, data: fill(content)} }
func (l line) flagged(flags uint64) line   { l.flags |= flags; return l }
func discard(sector, sectors int64) line {
	return line{flagDiscard, sector, make([]byte, sectors*SectorSize)}
}
func fill(text string) (sectors []byte) {
	for i := range len(text) {
		sectors = append(sectors, bytes.Repeat([]byte{text[i]}, SectorSize)...)
	}
	return sectors
}
func put64(b []byte, values ...uint64) {
	for i, v := range values {
		binary.LittleEndian.PutUint64(b[8*i:], v)
	}
}

// encode writes a log in QEMU's form.
func encode(lines []line) []byte {
	head := make([]byte, SectorSize)
	put64(head, logMagic, logVersion, uint64(len(lines)), SectorSize)
	for _, l := range lines {
		entry := make([]byte, SectorSize)
		put64(entry, uint64(l.sector), uint64(len(l.data)/SectorSize), l.flags)
		head = append(head, entry...)
		if l.flags&flagDiscard == 0 {
			head = append(head, l.data...)
		}
	}
	return head
}

func readLog(t *testing.T, lines ...line) *Log {
	t.Helper()
	text := encode(lines)
	l, err := ReadLog(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestEpochs(t *testing.T) {
	l := readLog(t, flush(), at(1, "a"), at(2, "bc"), flush(), flush(), at(1, "d").flagged(flagFlush|flagFUA), discard(4, 2), flush(), at(9, "e"))
	var got []string
	for _, e := range l.Epochs() {
		got = append(got, fmt.Sprintf("%d %v %d", e.First, e.Writes, e.End))
	}
	if want := []string{"1 [1 2] 3", "5 [5 6] 7", "8 [8] 9"}; !slices.Equal(got, want) {
		t.Errorf("Epochs = %q, want %q", got, want)
	}
	data, err := l.Data(l.Entries[6])
	if err != nil || !bytes.Equal(data, make([]byte, 2*SectorSize)) {
		t.Errorf("a discard reads as %d bytes, %v", len(data), err)
	}
}

func TestReadLogRefuses(t *testing.T) {
	good := encode([]line{at(1, "a"), at(2, "b")})
	change := func(at int, value uint64) []byte {
		bad := slices.Clone(good)
		put64(bad[at:], value)
		return bad
	}
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"nothing": {nil, "head"},
		"magic":   {change(0, 7), "this is no write log"},
		"version": {change(8, 2), "version 2"},
		"count":   {change(16, 1<<60), "at most"},
		"sector":  {change(SectorSize, 1<<63), "out of any disk"},
		"flags":   {change(SectorSize+16, 64), "entry 0: flags 0x40"},
		"sectors": {change(24, 4096), "log-sector-size=512"},
	} {
		if _, err := ReadLog(bytes.NewReader(c.text), int64(len(c.text))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: ReadLog = %v, want %q", name, err, c.want)
		}
	}
	for cut := SectorSize; cut < len(good); cut += 100 { // the log of a QEMU that was killed
		l, err := ReadLog(bytes.NewReader(good[:cut]), int64(cut))
		if err != nil || len(l.Entries) != (cut-SectorSize)/(2*SectorSize) {
			t.Errorf("cut at %d: %d entries, %v", cut, len(l.Entries), err)
		}
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add(encode([]line{at(1, "a"), flush(), discard(3, 9)}))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ReadLog(bytes.NewReader(text), int64(len(text)))
		if err != nil {
			return
		}
		for _, e := range l.Epochs() {
			if len(e.Writes) == 0 || e.End > len(l.Entries) {
				t.Errorf("epoch %+v of %d entries", e, len(l.Entries))
			}
		}
	})
}

// diskOf is a disk of 16 sectors and a log over it, as a recording.
func diskOf(t *testing.T, lines ...line) (*Recording, []byte) {
	t.Helper()
	folder := t.TempDir()
	image := filepath.Join(folder, "image")
	first := bytes.Repeat([]byte("."), 16*SectorSize)
	for name, content := range map[string][]byte{image: first, filepath.Join(folder, logFile): encode(lines)} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &Recording{Folder: folder, Image: image, Size: 16 * SectorSize}, first
}

// letters are the first bytes of a disk's sectors.
func letters(disk []byte) string {
	var b strings.Builder
	for i := 0; i < len(disk); i += SectorSize {
		b.WriteByte(disk[i])
	}
	return b.String()
}

func TestStates(t *testing.T) {
	r, _ := diskOf(t, at(0, "ab"), flush(), at(1, "cde"), at(3, "f").flagged(flagFUA), at(3, "g"), flush(), at(5, "h"))
	for id, want := range map[StateID]string{
		"0p0": "................", "0t0.1": "a...............", "0u0.1": ".b..............", "0p1": "ab..............",
		"1p0": "ab..............", "1p1": "acde............", "1t0.2": "acd.............", "1u0.2": "ab.e............",
		"1p2": "acdf............", "1p3": "acdg............", "1d0": "ab.g............", "1d2": "acdf............", "1o2": "ab.g............",
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
	for id, want := range map[StateID]string{"": "as check prints it", "3p0": "3 epochs", "1p4": "3 writes", "1d3": "3 writes", "1t0": "as check", "xp1": "as check", "1s8": "3 writes"} {
		if err := WriteState(r, id, Effort{}, filepath.Join(t.TempDir(), "state")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("WriteState(%q) = %v, want %q", id, err, want)
		}
	}
}

// TestShowIsAnyStateAfterAnyOther compares the steps from state to state with making each from the beginning, and the sums with
// the contents, on random logs.
func TestShowIsAnyStateAfterAnyOther(t *testing.T) {
	for seed := range uint64(30) {
		dice := rand.New(rand.NewPCG(seed, 1))
		var lines []line
		for n := range 24 {
			if dice.IntN(6) == 0 {
				lines = append(lines, flush())
			}
			sector := dice.Int64N(12)
			lines = append(lines, at(sector, strings.Repeat(string(rune('a'+n)), 1+dice.IntN(4))))
		}
		r, disk := diskOf(t, lines...)
		l := readLog(t, lines...)
		regions := []Region{{"low", []span{{0, 8 * SectorSize}}, 0, 0}, {"high", []span{{8 * SectorSize, 16 * SectorSize}}, 0, 0}}
		s, err := newScratch(r.Image, filepath.Join(r.Folder, "scratch"), r.Size, regions)
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
			for _, c := range choices(l, number, e, Effort{Seed: seed, Subsets: 3, Throws: 5, MostTorn: 9, MostDrops: 9}) {
				if err := v.show(was, c.pieces); err != nil {
					t.Fatal(err)
				}
				was = c.pieces
				want := slices.Clone(disk)
				for _, p := range c.pieces {
					copy(want[v.where[p.write]+p.from*SectorSize:], v.data[p.write][p.from*SectorSize:p.to*SectorSize])
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

func TestLoadRecordingKnowsItsImage(t *testing.T) {
	r, _ := diskOf(t, at(0, "a"))
	stat, err := os.Stat(r.Image)
	if err != nil {
		t.Fatal(err)
	}
	r.Built = stat.ModTime()
	r.Sections = []Section{{Name: "a"}, {Name: "b", From: 3, Careless: true}}
	if err := r.Save(); err != nil {
		t.Fatal(err)
	}
	got, err := LoadRecording(r.Folder)
	if err != nil || !slices.Equal(got.Good(), []string{"a"}) || got.Size != r.Size {
		t.Errorf("LoadRecording = %+v, %v", got, err)
	}
	if err := os.Chtimes(r.Image, stat.ModTime(), stat.ModTime().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRecording(r.Folder); err == nil || !strings.Contains(err.Error(), "built anew since") {
		t.Errorf("LoadRecording with another image = %v", err)
	}
	if err := os.Remove(r.Image); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRecording(r.Folder); err == nil || !strings.Contains(err.Error(), "its image") {
		t.Errorf("LoadRecording without its image = %v", err)
	}
}

// TestJudgedByTheCut has epochs that reach over the borders of sections, where no flush came between.
func TestJudgedByTheCut(t *testing.T) {
	r := &Recording{Sections: []Section{{Name: "a"}, {Name: "careless", From: 10, Careless: true}, {Name: "b", From: 20}}}
	for _, tt := range []struct {
		names      []string
		first, cut int
		want       bool
	}{
		{nil, 5, 15, true},
		{[]string{"a", "b"}, 5, 8, true},
		{[]string{"a", "b"}, 5, 10, true}, // the power went before the careless write
		{[]string{"a", "b"}, 5, 11, false},
		{[]string{"a", "b"}, 12, 25, false},
		{[]string{"a", "b"}, 5, 25, false},
		{[]string{"a", "b"}, 20, 25, true},
		{[]string{"a", "b"}, 19, 21, false},
		{[]string{"a"}, 20, 25, false},
		{[]string{"careless"}, 5, 10, false},
		{[]string{"careless"}, 5, 11, true},
		{[]string{"careless"}, 12, 20, true},
		{[]string{"careless"}, 12, 25, false},
	} {
		if got := r.judged(tt.names, tt.first, tt.cut); got != tt.want {
			t.Errorf("judged(%q, %d, %d) = %t, want %t", tt.names, tt.first, tt.cut, got, tt.want)
		}
	}
}

func TestPromises(t *testing.T) {
	r := Recording{
		Sections: []Section{{Name: "a", From: 0}, {Name: "b", From: 5, Free: true}},
		Promises: []Promise{{2, "x", []string{"1", "2"}}, {6, "x", []string{"2"}}, {7, "y", nil}},
	}
	for cut, want := range map[int]string{0: "[]", 2: "[{2 x [1 2]}]", 5: "[{2 x [1 2]}]", 6: "[{6 x [2]}]", 9: "[{6 x [2]} {7 y []}]"} {
		if got := fmt.Sprint(r.inForce(cut)); got != want {
			t.Errorf("inForce(%d) = %s, want %s", cut, got, want)
		}
	}
	if got := r.section(4).Name + r.section(5).Name; got != "ab" {
		t.Errorf("sections are %s, want ab", got)
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
		{"1", false, false, false}, {"", false, false, true}, {"2", false, false, true}, {"", true, true, false}, {"2", false, true, false}, {"1", false, false, true},
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

// fatFiles makes a FAT with files, as the image builder does.
func fatFiles(t *testing.T, name string, files map[string]string) {
	t.Helper()
	testenv.NeedPrograms(t, "mkfs.vfat", "mcopy", "mmd", "fsck.vfat")
	sh := func(args ...string) {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	if err := os.WriteFile(name, make([]byte, 40<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	sh("mkfs.vfat", "--invariant", "-F", "32", "-S", "512", "-s", "1", name)
	for path, content := range files {
		source := filepath.Join(t.TempDir(), "source")
		if err := os.WriteFile(source, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		for i := range path {
			if i > 0 && path[i] == '/' {
				_ = exec.Command("mmd", "-D", "s", "-i", name, "::"+path[:i]).Run() // it may be there
			}
		}
		sh("mcopy", "-o", "-i", name, source, "::"+path)
	}
}

// noted is a judge of FAT whose only fact is a file.
func noted() FAT {
	return FAT{Partition: "resin-boot", Read: func(f *fat.FileSystem) (Verdict, error) {
		v := Verdict{Facts: map[string]string{}}
		if text, err := f.Read("/note"); err == nil {
			v.Facts[FactNote] = string(text[:3])
		}
		return v, nil
	}}
}

// TestFATJudge judges the disks between two contents of a FAT that were written without any order. That must be found bad.
func TestFATJudge(t *testing.T) {
	before, after := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	fatFiles(t, before, map[string]string{"/note": strings.Repeat("old", 500)})
	fatFiles(t, after, map[string]string{"/note": strings.Repeat("new", 900)})
	old, err := os.ReadFile(before)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := os.ReadFile(after)
	if err != nil {
		t.Fatal(err)
	}
	judge := func(disk []byte) Verdict {
		file := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(file, disk, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := noted().Judge(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for name, disk := range map[string][]byte{"old": old, "new": changed} {
		if v := judge(disk); v.Bad != "" || v.Class != "clean" || v.Facts[FactNote] != name {
			t.Errorf("%s: %+v", name, v)
		}
	}
	bad := 0
	for at := 0; at < len(old); at += SectorSize {
		if !bytes.Equal(old[at:at+SectorSize], changed[at:at+SectorSize]) {
			copy(old[at:], changed[at:at+SectorSize])
			if v := judge(old); v.Bad != "" {
				bad++
			}
		}
	}
	if bad == 0 {
		t.Error("no state between old and new was found bad")
	}
}

func TestExt4JudgeFindsDamage(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "e2fsck", "debugfs")
	file := filepath.Join(t.TempDir(), "ext4")
	if err := os.WriteFile(file, make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(t.TempDir(), "note")
	if err := os.WriteFile(note, []byte("  text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-g", "8192", "-O", "metadata_csum", file}, {"debugfs", "-w", "-R", "write " + note + " note", file}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	x := Ext4{Partition: "resin-state", Texts: map[string]string{"note": "/note", "none": "/none"}, Read: []Reader{size("resin-state")}}
	v, err := x.Judge(t.Context(), file)
	if err != nil || v.Bad != "" || v.Class != "clean" || v.Facts["note"] != "text" || len(v.Facts) != 2 || v.Facts[factFileSystem("resin-state")] != fmt.Sprint(64<<20) {
		t.Errorf("a sound file system: %+v, %v", v, err)
	}
	tear(t, file)
	if v, err := x.Judge(t.Context(), file); err != nil || v.Bad != "" || v.Class != "superblock restored, clean" || v.Facts["note"] != "text" {
		t.Errorf("a superblock of which one sector is older: %+v, %v", v, err)
	}
	wipe(t, file)
	if v, err := x.Judge(t.Context(), file); err != nil || v.Bad != "" || v.Class != "superblock and group descriptors restored, journal to play back" || v.Facts["note"] != "text" {
		t.Errorf("a lost head, and a copy that the kernel wrote while the file system was attached: %+v, %v", v, err)
	}
	if out, err := exec.Command("debugfs", "-w", "-R", "clri /note", file).CombinedOutput(); err != nil {
		t.Fatalf("debugfs: %v: %s", err, out)
	}
	if v, err := x.Judge(t.Context(), file); err != nil || v.Class != "damaged" || v.Bad == "" {
		t.Errorf("a file without an inode: %+v, %v", v, err)
	}
	if err := os.Truncate(file, 16<<20); err != nil { // and with it the copy
		t.Fatal(err)
	}
	tear(t, file)
	if v, err := x.Judge(t.Context(), file); err != nil || v.Class != "damaged" || v.Bad == "" {
		t.Errorf("no superblock is left: %+v, %v", v, err)
	}
}

// wipe takes the superblock and the descriptors of the groups away, and makes the copy one that speaks of a journal to play back.
func wipe(t *testing.T, file string) {
	t.Helper()
	const at, features, recover, sum = 8192 * 4096, 0x60, 4, 0x3fc
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1024)
	_, err = f.ReadAt(b, at)
	b[features] |= recover
	binary.LittleEndian.PutUint32(b[sum:], ^crc32.Checksum(b[:sum], crc32.MakeTable(crc32.Castagnoli)))
	_, err1 := f.WriteAt(b, at)
	_, err2 := f.WriteAt(make([]byte, 8192), 0)
	if err := errors.Join(err, err1, err2, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// tear changes the second sector of the superblock, in which its checksum lies.
func tear(t *testing.T, file string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{1, 2, 3, 4}, 1024+0x3fc)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// panics is a judge that falls over what it sees.
type panics struct{}

func (panics) Region() string                                 { return "x" }
func (panics) Judge(context.Context, string) (Verdict, error) { panic("garbage") }

func TestSuiteShieldsFromJudges(t *testing.T) {
	v, err := Suite{Judges: []Judge{panics{}}}.run(t.Context(), "x", "")
	if err != nil || !strings.Contains(v.Bad, "garbage") {
		t.Errorf("run = %+v, %v", v, err)
	}
}

func TestRules(t *testing.T) {
	facts := map[string]string{FactTable("resin-data"): "1000", factFileSystem("resin-data"): "1001"}
	if got := fits("resin-data")(facts); !strings.Contains(got, "1001") {
		t.Errorf("a file system larger than its partition: %q", got)
	}
	facts[FactTable("resin-data")] = "1001"
	if got := fits("resin-data")(facts) + fits("resin-state")(facts); got != "" {
		t.Errorf("one that fits: %q", got)
	}
}

// TestEntryBeyondTheDisk: what a damaged log claims is refused before memory is taken for it.
func TestEntryBeyondTheDisk(t *testing.T) {
	l := &Log{Entries: []Entry{{Sector: 1, Sectors: mostSector, Discard: true}}}
	s := &scratch{disk: make([]byte, 1<<20)}
	if _, err := s.view(l, l.Epochs()[0]); err == nil || !strings.Contains(err.Error(), "beyond the disk") {
		t.Errorf("view = %v", err)
	}
}
