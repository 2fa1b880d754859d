package chunk

import (
	"bytes"
	"errors"
	"fmt"

	"resinos/services/log/entry"
	"resinos/services/log/pipe"
)

// A Growth makes the bytes of a chunk outside of the ring, for a log that outlives the boot: frames are appended to
// it, one batch after another, until it is large enough. Each source is told before its first entry, without a
// cursor. A Growth writes nothing itself; what it gives must reach the file in the same order. It belongs to one
// goroutine.
type Growth struct {
	header  Header
	begun   bool // the header has been given
	next    uint64
	sources map[pipe.Source]*Source
	nextID  uint64
	framer  *Framer // a megabyte, which is there only while it is needed
	buf     []byte
}

// Grow starts a chunk of the boot whose first entry is first, which the caller adds next.
func Grow(boot [16]byte, first *entry.Entry) *Growth {
	return &Growth{
		header: Header{
			Codec: codecGrown, First: first.Seq, Boot: boot, Wall: first.Time.UnixMicro(),
			Boottime: first.Boottime.Microseconds(),
		},
		next: first.Seq, sources: map[pipe.Source]*Source{},
	}
}

// Regrow takes up a chunk whose file holds b, and says how many bytes of it are whole: what follows them is the
// rest of a write that was cut short, and must be overwritten. It fails if b is no such chunk of the boot.
func Regrow(boot [16]byte, b []byte) (g *Growth, whole int64, err error) {
	state, err := Scan(b)
	if err != nil {
		return nil, 0, err
	}
	if state.Header.Codec != codecGrown || state.Header.Boot != boot {
		return nil, 0, errors.New("parse log chunk: not one that grows, of this boot")
	}
	g = &Growth{header: state.Header, begun: true, next: state.Seq, sources: map[pipe.Source]*Source{}}
	for id, s := range state.Sources {
		g.sources[s.Source] = s
		g.nextID = max(g.nextID, id+1)
	}
	return g, int64(state.Valid), nil
}

// Next returns the seq that the next entry must have.
func (g *Growth) Next() uint64 { return g.next }

// Add takes an entry, which must be the next one. It reports true when Take is due.
func (g *Growth) Add(e *entry.Entry) (full bool, err error) {
	if e.Seq != g.next {
		return false, fmt.Errorf("grow log chunk: entry %d, want %d", e.Seq, g.next)
	}
	if g.framer == nil {
		g.framer = NewFramer()
	}
	s := g.sources[e.Source()]
	if s == nil {
		s = &Source{Source: e.Source(), ID: g.nextID}
		g.nextID++
		g.sources[s.Source] = s
		g.buf = AppendSource(g.buf[:0], s)
		if _, err := g.framer.add(g.buf[recordHead:]); err != nil {
			return false, fmt.Errorf("grow log chunk: %w", err)
		}
	}
	g.buf = AppendEntry(g.buf[:0], g.header, s, e, []byte(e.Message), 0, false)
	if full, err = g.framer.add(g.buf[recordHead:]); err != nil {
		return false, fmt.Errorf("grow log chunk: %w", err)
	}
	g.next++
	return full, nil
}

// Take returns what must be written now: a frame with all entries since the last Take, behind the header if it is the
// first; nothing if there are none.
func (g *Growth) Take() ([]byte, error) {
	if g.framer == nil || g.framer.plain == 0 {
		return nil, nil
	}
	var out bytes.Buffer
	if !g.begun {
		out.Write(g.header.Append(nil))
	}
	if err := g.framer.finish(&out); err != nil {
		return nil, fmt.Errorf("grow log chunk: %w", err)
	}
	g.begun = true
	return out.Bytes(), nil
}

// Rest gives the memory of the compressor back until the next Add. All must have been taken.
func (g *Growth) Rest() { g.framer, g.buf = nil, nil }
