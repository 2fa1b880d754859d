package powercut

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strconv"
	"strings"

	"resinos/images/powercut/recording"
)

// A StateID names one disk that a cut could have left, in a form that can be typed. All before the epoch is on the
// disk; of the epoch's writes, numbered from 0:
//
//	EPOCHpN    the first N
//	EPOCHtN.S  the first N, and of the next one its first S sectors
//	EPOCHuN.S  the same, but the next one has all except its first S sectors
//	EPOCHsM    those whose bit is set in M; for short epochs all subsets are tried
//	EPOCHdN    all but number N
//	EPOCHoN    number N alone: it came before all others
//	EPOCHrN    a part chosen by dice: the Nth throw of the seed
type StateID string

// kinds of states, as they stand in a StateID.
const (
	prefixState = 'p'
	tornState   = 't'
	tailState   = 'u'
	subsetState = 's'
	dropState   = 'd'
	onlyState   = 'o'
	randomState = 'r'
)

// parts takes an id apart.
func (id StateID) parts() (epoch int, kind byte, number, sectors int, err error) {
	i := strings.IndexAny(string(id), "ptusdor")
	if i < 0 {
		return 0, 0, 0, 0, fmt.Errorf("state %q: want a name as check prints it, such as 12p3", id)
	}
	kind = id[i]
	rest, tail, torn := strings.Cut(string(id[i+1:]), ".")
	epoch, first := strconv.Atoi(string(id[:i]))
	number, second := strconv.Atoi(rest)
	if torn {
		sectors, err = strconv.Atoi(tail)
	}
	if first != nil || second != nil || err != nil || torn != (kind == tornState || kind == tailState) ||
		min(epoch, number, sectors) < 0 {
		return 0, 0, 0, 0, fmt.Errorf("state %q: want a name as check prints it, such as 12p3", id)
	}
	return epoch, kind, number, sectors, nil
}

// A piece is some sectors of one write: [from, to) of them.
type piece struct {
	write    int // number in the epoch
	from, to int64
}

// choice says which parts of an epoch are on the disk, and at which entry the power went: the device had asked for
// everything before it.
type choice struct {
	id     StateID
	pieces []piece
	cut    int
	whole  bool // all of the epoch: from the flush that ends it on, this is on the disk
}

// Effort says how many states are tried beside all prefixes.
type Effort struct {
	Seed      uint64 // of the dice
	Subsets   int    // all subsets of an epoch of up to so many writes, below 20
	Throws    int    // random parts of a longer one
	MostTorn  int    // places at which a write is torn, at most
	MostDrops int    // writes that are left out, and that come first, of a longer epoch, at most
}

// Thorough tries each single loss of every epoch and each place that a write of up to 64 KiB can be torn at.
func Thorough(seed uint64) Effort {
	return Effort{Seed: seed, Subsets: 9, Throws: 200, MostTorn: 128, MostDrops: 1 << 20}
}

// Quick is what fits into minutes. A write of 4 KiB is torn at each of its sectors: of ext4's superblock, which lies in
// two of them, three places said nothing.
func Quick(seed uint64) Effort {
	return Effort{Seed: seed, Subsets: 4, Throws: 6, MostTorn: 7, MostDrops: 12}
}

// choices lists the states of an epoch, without the one before its first write unless it is the first epoch.
func choices(l *recording.Log, number int, e recording.Epoch, f Effort) []choice {
	var all []choice
	add := func(c choice) { all = append(all, c) }
	count := len(e.Writes)
	for n := range count {
		if n > 0 || number == 0 {
			add(choose(l, number, e, f, prefixState, n, 0))
		}
		for _, s := range tears(l.Entries[e.Writes[n]].Sectors, f.MostTorn) {
			add(choose(l, number, e, f, tornState, n, s))
			add(choose(l, number, e, f, tailState, n, s))
		}
	}
	all = append(all, losses(l, number, e, f)...)
	// The whole epoch comes last: what it holds is on the disk from then on.
	return append(all, choose(l, number, e, f, prefixState, count, 0))
}

// losses lists the states of an epoch in which an earlier write is missing and a later one is not.
func losses(l *recording.Log, number int, e recording.Epoch, f Effort) []choice {
	var all []choice
	add := func(c choice) { all = append(all, c) }
	count := len(e.Writes)
	if count <= f.Subsets {
		for mask := 1; mask < 1<<count; mask++ {
			if mask&(mask+1) != 0 { // the others are prefixes
				add(choose(l, number, e, f, subsetState, mask, 0))
			}
		}
		return all
	}
	for _, n := range spread(count, f.MostDrops) {
		if n < count-1 { // without the last it is a prefix
			add(choose(l, number, e, f, dropState, n, 0))
		}
		if n > 0 { // the first alone is a prefix
			add(choose(l, number, e, f, onlyState, n, 0))
		}
	}
	for n := range f.Throws {
		add(choose(l, number, e, f, randomState, n, 0))
	}
	return all
}

// choose makes one state. It is the only place that knows what the kinds mean.
func choose(l *recording.Log, number int, e recording.Epoch, f Effort, kind byte, n, sectors int) choice {
	c := choice{cut: e.End}
	whole := func(w int) piece { return piece{write: w, to: l.Entries[e.Writes[w]].Sectors} }
	length := func(w int) int64 { return l.Entries[e.Writes[w]].Sectors }
	id := fmt.Sprintf("%d%c%d", number, kind, n)
	switch kind {
	case prefixState, tornState, tailState:
		c.whole = n == len(e.Writes)
		for w := range n {
			c.pieces = append(c.pieces, whole(w))
		}
		if n < len(e.Writes) {
			c.cut = e.Writes[n] + 1
			switch kind {
			case prefixState:
				c.cut--
			case tornState:
				c.pieces = append(c.pieces, piece{n, 0, int64(sectors)})
			case tailState:
				c.pieces = append(c.pieces, piece{n, int64(sectors), length(n)})
			}
		}
		if kind != prefixState {
			id += fmt.Sprintf(".%d", sectors)
		}
	case subsetState:
		c.cut = e.Writes[bits.Len(uint(n))-1] + 1
		for w := range min(len(e.Writes), bits.Len(uint(n))) {
			if n>>w&1 == 1 || l.Entries[e.Writes[w]].FUA {
				c.pieces = append(c.pieces, whole(w))
			}
		}
	case dropState, onlyState:
		for w := range e.Writes {
			if (w == n) == (kind == onlyState) || l.Entries[e.Writes[w]].FUA && w < n {
				c.pieces = append(c.pieces, whole(w))
			}
		}
		if kind == onlyState {
			c.cut = e.Writes[n] + 1
		}
	case randomState:
		c.pieces, c.cut = throw(l, number, e, f.Seed, n)
	}
	c.id = StateID(id)
	return c
}

// throw chooses a part of an epoch by dice: how far the device had come, and which of its writes were then on the disk.
func throw(l *recording.Log, number int, e recording.Epoch, seed uint64, n int) (pieces []piece, cut int) {
	dice := rand.New(rand.NewPCG(seed, uint64(number)<<32|uint64(n)))
	asked := 2 + dice.IntN(len(e.Writes)-1)
	kept := 1 + dice.IntN(7) // of 8: some throws lose little, others nearly all
	for w := range asked {
		entry := l.Entries[e.Writes[w]]
		if dice.IntN(8) >= kept && !entry.FUA {
			continue
		}
		p := piece{w, 0, entry.Sectors}
		if entry.Sectors > 1 && dice.IntN(8) == 0 {
			p.to = 1 + dice.Int64N(entry.Sectors-1)
		}
		pieces = append(pieces, p)
	}
	if asked == len(e.Writes) {
		return pieces, e.End
	}
	return pieces, e.Writes[asked]
}

// tears are the places, in sectors, at which a write is torn.
func tears(sectors int64, most int) []int {
	if sectors < 2 {
		return nil
	}
	var at []int
	for _, n := range spread(int(sectors-1), most) {
		at = append(at, n+1)
	}
	return at
}

// spread chooses up to most of the numbers below count, first and last among them, evenly.
func spread(count, most int) []int {
	var all []int
	if count <= most {
		for n := range count {
			all = append(all, n)
		}
		return all
	}
	for i := range most {
		all = append(all, i*(count-1)/max(most-1, 1))
	}
	return all
}
