package query

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"resinos/services/control"
	"resinos/services/log/entry"
	"resinos/services/log/ring"
)

// A Store is all that can be asked for: the ring, and the directory that keeps earlier boots, as ring.Boot draws it.
type Store struct {
	Ring    *ring.Ring
	Archive string // "" if there is none

	// Flush brings what is not yet in the archive there; nil if there is none.
	Flush func(context.Context) error
}

// A Span is one boot of the store.
type Span struct {
	Number int       `json:"number"` // 0 this boot, -1 the one before
	ID     string    `json:"id"`
	First  time.Time `json:"first"` // wall clock of the oldest entry that is left, as wrong as the clock was then
	Last   time.Time `json:"last"`
}

// part is a piece of a boot whose entries lie in one row of chunks.
type part struct {
	boot        string
	live        bool
	from, until uint64
	reader      func(from uint64) *ring.Reader
	tail        func(n int, keep func(*entry.Entry) bool) (from uint64, found int, err error)
}

// parts returns everything, oldest first. Of this boot, the archive may hold what the ring has lost already. The ring
// is among them even if the archive cannot be read.
func (s *Store) parts() ([]part, error) {
	live := part{boot: s.Ring.BootID(), live: true, from: s.Ring.Oldest(), until: math.MaxUint64,
		reader: s.Ring.NewReader, tail: s.Ring.Tail}
	if s.Archive == "" {
		return []part{live}, nil
	}
	boots, _, err := ring.Boots(s.Archive)
	var earlier, own []part
	until := live.from // of this boot's newest part; an older one is of another ring, whose entries are counted apart
	for _, b := range slices.Backward(boots) {
		switch {
		case b.ID != live.boot:
			earlier = append(earlier, partOf(b, math.MaxUint64))
		case b.Oldest() < until:
			own = append(own, partOf(b, until))
			until = math.MaxUint64
		}
	}
	parts := append(append([]part{live}, own...), earlier...)
	slices.Reverse(parts)
	return parts, err
}

func partOf(b *ring.Boot, until uint64) part {
	return part{
		boot: b.ID, from: b.Oldest(), until: until, reader: b.NewReader,
		tail: func(n int, keep func(*entry.Entry) bool) (uint64, int, error) { return b.Tail(n, until, keep) },
	}
}

// choose returns the parts of the boot that was asked for; all of them for "".
func choose(parts []part, boot string) ([]part, error) {
	if boot == "" {
		return parts, nil
	}
	ids := bootIDs(parts)
	id := boot
	if n, err := strconv.Atoi(boot); err == nil && len(boot) < minBootID {
		if -n >= len(ids) {
			return nil, &control.Error{Text: fmt.Sprintf("the log of boot %s is not kept", boot),
				Hint: "try: osctl logs --boots"}
		}
		id = ids[len(ids)-1+n]
	}
	var chosen []part
	for _, p := range parts {
		if strings.HasPrefix(p.boot, id) && (len(chosen) == 0 || chosen[0].boot == p.boot) {
			chosen = append(chosen, p)
		}
	}
	if len(chosen) == 0 {
		return nil, &control.Error{Text: fmt.Sprintf("the log of boot %s is not kept", boot),
			Hint: "try: osctl logs --boots"}
	}
	return chosen, nil
}

// bootIDs returns the boots in the order of their parts.
func bootIDs(parts []part) []string {
	var ids []string
	for _, p := range parts {
		if len(ids) == 0 || ids[len(ids)-1] != p.boot {
			ids = append(ids, p.boot)
		}
	}
	return ids
}

// last sets the parts' beginnings so that they hold the last n entries that keep wants, none for a negative n, all for
// 0.
func last(parts []part, n int, keep func(*entry.Entry) bool) ([]part, error) {
	if n == 0 {
		return parts, nil
	}
	for i := len(parts) - 1; i >= 0; i-- {
		from, found, err := parts[i].tail(n, keep)
		if err != nil {
			return nil, err
		}
		parts[i].from = from
		if n -= found; n <= 0 {
			return parts[i:], nil
		}
	}
	return parts, nil
}

// spans lists the boots.
func spans(parts []part) ([]Span, error) {
	ids := bootIDs(parts)
	list := make([]Span, len(ids))
	at := 0
	for i, p := range parts {
		if i > 0 && p.boot != parts[i-1].boot {
			at++
		}
		first, last, err := p.ends()
		if err != nil {
			return nil, err
		}
		if list[at].ID == "" {
			list[at] = Span{Number: at - len(ids) + 1, ID: p.boot, First: first}
		}
		list[at].Last = last
	}
	return list, nil
}

// ends returns the times of a part's first and last entry, zero if it has none.
func (p *part) ends() (first, last time.Time, err error) {
	from, found, err := p.tail(1, nil)
	if err != nil || found == 0 {
		return first, last, err
	}
	for _, end := range []struct {
		from uint64
		time *time.Time
	}{{p.from, &first}, {from, &last}} {
		rd := p.reader(end.from)
		var e entry.Entry
		_, err := rd.Next(&e)
		rd.Close() // opened for reading: nothing to lose
		if err != nil {
			return first, last, err
		}
		*end.time = e.Time
	}
	return first, last, nil
}
