package gpt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand"
	"strings"
	"testing"
)

// image is a disk in memory that remembers what is written, sector by sector, and when it was synced. Sectors of zeroes
// are not kept.
type image struct {
	kept    map[int]string
	sector  int
	sectors int
	log     []change
	epoch   int
}

type change struct {
	at    int // sector
	bytes string
	epoch int
}

func (d *image) ReadAt(b []byte, at int64) (int, error) {
	for i := range b {
		p := int(at) + i
		if p >= d.sectors*d.sector {
			return i, io.EOF
		}
		b[i] = 0
		if s := d.kept[p/d.sector]; s != "" {
			b[i] = s[p%d.sector]
		}
	}
	return len(b), nil
}

// WriteAt takes whole sectors.
func (d *image) WriteAt(b []byte, at int64) (int, error) {
	if int(at)%d.sector != 0 || len(b)%d.sector != 0 || int(at)+len(b) > d.sectors*d.sector {
		return 0, fmt.Errorf("write of %d bytes at %d", len(b), at)
	}
	for i := 0; i < len(b); i += d.sector {
		c := change{(int(at) + i) / d.sector, string(b[i:][:d.sector]), d.epoch}
		d.log = append(d.log, c)
		d.put(c)
	}
	return len(b), nil
}

func (d *image) put(c change) {
	delete(d.kept, c.at)
	if strings.Trim(c.bytes, "\x00") != "" {
		d.kept[c.at] = c.bytes
	}
}

func (d *image) Sync() error { d.epoch++; return nil }

// change lets f change a sector; a negative one counts from the end.
func (d *image) change(at int, f func(b []byte)) {
	if at < 0 {
		at += d.sectors
	}
	b := make([]byte, d.sector)
	copy(b, d.kept[at])
	f(b)
	d.put(change{at: at, bytes: string(b)})
}

const data = "resin-data"

// newDisk is a disk of so many MiB with a table for one of 64 MiB: two partitions of 16 MiB from 1 MiB on.
func newDisk(sector, mib int) *image {
	d := &image{kept: map[int]string{}, sector: sector, sectors: 64 << 20 / sector}
	d.change(0, func(b []byte) {
		b[450], b[454], b[510], b[511] = 0xee, 1, 0x55, 0xaa
		order.PutUint32(b[458:], uint32(d.sectors-1))
	})
	entries := make([]byte, 128*128)
	unit := uint64(1 << 20 / sector)
	for n, label := range []string{"resin-state", data} {
		e := entries[n*128:]
		e[0], e[16] = 1, byte(n+1)
		order.PutUint64(e[32:], unit*uint64(1+16*n))
		order.PutUint64(e[40:], unit*uint64(17+16*n)-1)
		for i, c := range label {
			order.PutUint16(e[56+2*i:], uint16(c))
		}
	}
	h := make([]byte, sector)
	copy(h, "EFI PART\x00\x00\x01\x00")
	order.PutUint32(h[atSize:], headerSize)
	end, many := LBA(d.sectors-1), LBA(len(entries)/sector)
	order.PutUint64(h[atFirstUsable:], uint64(2+many))
	order.PutUint64(h[atLastUsable:], uint64(end-many-1))
	order.PutUint32(h[atCount:], 128)
	order.PutUint32(h[atEntrySize:], 128)
	r := raw{h, entries}
	for at, b := range map[LBA][]byte{1: r.placed(1, end, 2), 2: entries, end: r.placed(end, 1, end-many),
		end - many: entries} {
		if _, err := d.WriteAt(b, int64(at)*int64(sector)); err != nil {
			panic(err)
		}
	}
	d.sectors, d.log = mib<<20/sector, nil
	return d
}

func (d *image) read() (Table, error) { return Read(d, d.sector, LBA(d.sectors)) }

func (d *image) plan(t *testing.T) Repair {
	t.Helper()
	table, err := d.read()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Plan(table, data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// damages are what may have happened to a disk before we see it.
var damages = map[string]func(*image){
	"none":           func(*image) {},
	"first header":   func(d *image) { d.change(1, func(b []byte) { clear(b) }) },
	"first entries":  func(d *image) { d.change(2, func(b []byte) { b[140] ^= 0xff }) },
	"second header":  func(d *image) { d.change(-1, func(b []byte) { b[30] ^= 1 }) },
	"second entries": func(d *image) { d.change(-2, func(b []byte) { b[7] ^= 1 }) },
	"no MBR":         func(d *image) { d.change(0, func(b []byte) { clear(b) }) },
	"second is older": func(d *image) {
		table, err := d.read()
		if err != nil {
			panic(err)
		}
		r := raw{bytes.Clone(table.good.header), bytes.Clone(table.good.entries)}
		r.entries[40] ^= 1 // the end of the first partition
		d.change(2, func(b []byte) { copy(b, r.entries) })
		d.change(1, func(b []byte) { copy(b, r.placed(1, 64<<20/LBA(d.sector)-1, 2)) })
	},
}

// TestCutAtEveryWrite: wherever the power goes, with any subset of what was not synced on the disk, a whole table is
// there that a kernel finds, and going on from there ends at the same bytes.
func TestCutAtEveryWrite(t *testing.T) {
	random, states := rand.New(rand.NewSource(1)), 0
	for _, sector := range []int{512, 4096} {
		for _, mib := range []int{64, 96} {
			for name, damage := range damages {
				if mib == 96 && strings.HasPrefix(name, "first") {
					continue // the only good copy is where nobody looks for it
				}
				t.Run(fmt.Sprintf("%d/%d/%s", sector, mib, name), func(t *testing.T) {
					d := newDisk(sector, mib)
					damage(d)
					states += cutEverywhere(t, d, random)
				})
			}
		}
	}
	t.Logf("%d states", states)
}

func cutEverywhere(t *testing.T, d *image, random *rand.Rand) (states int) {
	before := maps.Clone(d.kept)
	if err := d.plan(t).Apply(d, d.sector); err != nil {
		t.Fatal(err)
	}
	check := func(what string, written func(n int, c change) bool) {
		states++
		cut := &image{kept: maps.Clone(before), sector: d.sector, sectors: d.sectors}
		for n, c := range d.log {
			if written(n, c) {
				cut.put(c)
			}
		}
		if err := cut.plan(t).Apply(cut, d.sector); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(cut.kept, d.kept) {
			t.Errorf("%s: going on ends elsewhere", what)
		}
	}
	for cut := range len(d.log) + 1 {
		check(fmt.Sprintf("%d of %d sectors", cut, len(d.log)), func(n int, _ change) bool { return n < cut })
	}
	for range 40 {
		epoch := random.Intn(d.epoch + 1)
		check("a random subset", func(_ int, c change) bool {
			return c.epoch < epoch || c.epoch == epoch &&
				random.Intn(2) == 0
		})
	}
	if r := d.plan(t); len(r.Writes) != 0 || len(r.Why) != 0 {
		t.Errorf("a second run wants %v: %v", r.Writes, r.Why)
	}
	return states
}

func TestGrow(t *testing.T) {
	d := newDisk(512, 96)
	r := d.plan(t)
	if r.Grown == nil || r.Grown.Number != 2 || r.Grown.Last != 95<<11-1 {
		t.Fatalf("plan %+v", r)
	}
	if err := r.Apply(d, 512); err != nil {
		t.Fatal(err)
	}
	table, err := d.read()
	if err != nil || table.First != nil || table.Second != nil || table.Entries[1].Last != r.Grown.Last ||
		table.Entries[1].Name != data {
		t.Errorf("afterwards %+v, %v", table.Entries, err)
	}
	d.change(0, func(b []byte) {
		if got := order.Uint32(b[458:]); got != 96<<11-1 {
			t.Errorf("MBR covers %d sectors", got)
		}
	})
	for _, c := range d.log {
		if c.at > 33 && c.at < 96<<11-33 {
			t.Errorf("sector %d is written, which is not ours", c.at)
		}
	}
}

func TestPlanLeavesAlone(t *testing.T) {
	table, err := newDisk(512, 96).read()
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Plan(table, "resin-state"); err != nil || r.Grown != nil {
		t.Errorf("a partition in the middle: %+v, %v", r, err)
	}
	if table, err = newDisk(512, 30).read(); err != nil {
		t.Fatal(err)
	}
	if _, err := Plan(table, data); err == nil || !strings.Contains(err.Error(), "larger disk") {
		t.Errorf("a disk smaller than its table: %v", err)
	}
	hybrid := newDisk(512, 96)
	hybrid.change(0, func(b []byte) { b[466] = 0x0c })
	before := hybrid.kept[0]
	if err := hybrid.plan(t).Apply(hybrid, 512); err != nil || before != hybrid.kept[0] {
		t.Errorf("a hybrid MBR is changed (%v)", err)
	}
}

func TestReadRefuses(t *testing.T) {
	none := &image{kept: map[int]string{}, sector: 512, sectors: 2048}
	if _, err := none.read(); !errors.Is(err, ErrNone) {
		t.Errorf("a blank disk: %v", err)
	}
	both := newDisk(512, 64)
	damages["first header"](both)
	damages["second header"](both)
	if _, err := both.read(); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("two damaged copies: %v", err)
	}
	many := newDisk(512, 64)
	for _, at := range []int{1, -1} {
		many.change(at, func(h []byte) {
			order.PutUint32(h[atCount:], 1<<30)
			order.PutUint32(h[atSum:], headerSum(h))
		})
	}
	if _, err := many.read(); err == nil || !strings.Contains(err.Error(), "1073741824 entries") {
		t.Errorf("an absurd count: %v", err)
	}
	if _, err := Read(none, 512, 1<<40); err == nil {
		t.Error("a disk that is shorter than said is read")
	}
}

// TestSecondEntriesElsewhere: the second copy is not said to begin where nothing was written.
func TestSecondEntriesElsewhere(t *testing.T) {
	d := newDisk(512, 64)
	end, many := d.sectors-1, 32
	for n := range many {
		d.put(change{at: end - 2*many + n, bytes: d.kept[end-many+n]})
		delete(d.kept, end-many+n)
	}
	d.change(-1, func(h []byte) {
		order.PutUint64(h[atEntries:], uint64(end-2*many))
		order.PutUint32(h[atSum:], headerSum(h))
	})
	d.change(1, func(b []byte) { clear(b) })
	table, err := d.read()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Plan(table, "") // with a partition that grows the entries would differ anyway
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Apply(d, 512); err != nil {
		t.Fatal(err)
	}
	if table, err = d.read(); err != nil || table.First != nil || table.Second != nil {
		t.Errorf("after the repair: %v, %v, %v", table.First, table.Second, err)
	}
}

// TestPlanSparesPartitions: a table whose partition lies where the first copy's entries belong is left alone.
func TestPlanSparesPartitions(t *testing.T) {
	d := newDisk(512, 64)
	table, err := d.read()
	if err != nil {
		t.Fatal(err)
	}
	r := raw{bytes.Clone(table.good.header), bytes.Clone(table.good.entries)}
	order.PutUint64(r.entries[32:], 20) // of the first partition, before the first usable sector
	for n := range 32 {
		d.change(-33+n, func(b []byte) { copy(b, r.entries[n*512:]) })
	}
	d.change(-1, func(b []byte) { copy(b, r.placed(LBA(d.sectors-1), 1, LBA(d.sectors-33))) })
	d.change(1, func(b []byte) { clear(b) })
	if table, err = d.read(); err != nil {
		t.Fatal(err)
	}
	if plan, err := Plan(table, data); err == nil {
		t.Errorf("a partition is overwritten: %v", plan.Writes)
	}
}

func TestApplyStopsAtTheFirstFault(t *testing.T) {
	d := newDisk(512, 96)
	r := d.plan(t)
	bad := &failing{image: d, after: 2}
	if err := r.Apply(bad, 512); err == nil || !strings.Contains(err.Error(), "header of the second copy") {
		t.Errorf("Apply = %v", err)
	}
	if table, err := d.read(); err != nil || table.First != nil {
		t.Errorf("the first copy is touched: %v, %v", table.First, err)
	}
}

type failing struct {
	*image
	after int
}

func (f *failing) WriteAt(b []byte, at int64) (int, error) {
	if f.after--; f.after < 0 {
		return 0, errors.New("no space in this universe")
	}
	return f.image.WriteAt(b, at)
}

func FuzzRead(f *testing.F) {
	d := newDisk(512, 64)
	both := func(at, n int) []byte {
		b := make([]byte, n)
		if _, err := d.ReadAt(b, int64(at)); err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(both(0, 34*512), both(64<<20-33*512, 33*512))
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		d := &image{kept: map[int]string{}, sector: 512, sectors: 64 << 11}
		head, tail = head[:min(len(head), 40*512)/512*512], tail[:min(len(tail), 40*512)/512*512]
		for at, b := range map[int64][]byte{0: head, 64<<20 - int64(len(tail)): tail} {
			if _, err := d.WriteAt(b, at); err != nil {
				t.Fatal(err)
			}
		}
		table, err := d.read()
		if err != nil {
			return
		}
		r, err := Plan(table, data)
		if err != nil {
			return
		}
		if err := r.Apply(d, 512); err != nil {
			t.Fatal(err)
		}
		if again, err := d.read(); err != nil || again.First != nil || again.Second != nil {
			t.Errorf("after the repair: %v, %v, %v", again.First, again.Second, err)
		}
	})
}
