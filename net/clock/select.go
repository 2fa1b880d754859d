package clock

import (
	"cmp"
	"slices"
	"time"
)

// Candidate is what one server says: the true time lies within Distance of Offset.
type Candidate struct {
	Offset time.Duration // true time minus ours
	// root distance (RFC 5905, appendix A.5.5.2): what delays and dispersions can have hidden, at most
	Distance time.Duration
}

// Span is a range of offsets.
type Span struct {
	Low, High time.Duration
}

// Within reports whether what c says can be true if the true offset lies in the span.
func (s Span) Within(c Candidate) bool {
	return c.Offset-c.Distance <= s.High && c.Offset+c.Distance >= s.Low
}

// Select returns the range in which the true offset lies, if more than half of the candidates say so: where most of
// their intervals overlap. Who is not within it is a false ticker. It fails if no majority agrees, as when there are
// two and they differ, or if two ranges have as many voices each.
//
// RFC 5905, 11.2.1, also wants the middles of the intervals inside. A busy device hears a true server late on one way
// only, and then the middle is wrong by as much as it says it can be: only the ends are promises.
func Select(list []Candidate) (Span, bool) {
	type edge struct {
		at   time.Duration
		kind int // -1 begins an interval, +1 ends it
	}
	var edges []edge
	for _, c := range list {
		edges = append(edges, edge{c.Offset - c.Distance, -1}, edge{c.Offset + c.Distance, +1})
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.kind, b.kind)) })
	var s Span
	voices, most, ranges := 0, 0, 0
	for i, e := range edges {
		if voices -= e.kind; e.kind > 0 || voices < most {
			continue
		}
		if voices > most {
			most, ranges = voices, 0
		}
		if ranges++; ranges == 1 {
			// as voices never rose further, an end follows; if they do rise, this is replaced
			s = Span{e.at, edges[i+1].at}
		}
	}
	return s, 2*most > len(list) && ranges == 1
}
