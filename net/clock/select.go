package clock

import (
	"cmp"
	"slices"
	"time"
)

// Candidate is the vote of one server: the true time is within Distance of Offset.
type Candidate struct {
	Offset time.Duration // true time minus ours
	// root distance (RFC 5905, appendix A.5.5.2): the most that delays and dispersions can have hidden
	Distance time.Duration
}

// Span is a range of offsets.
type Span struct {
	Low, High time.Duration
}

// Within reports whether c can be right if the true offset is in the span.
func (s Span) Within(c Candidate) bool {
	return c.Offset-c.Distance <= s.High && c.Offset+c.Distance >= s.Low
}

// Select returns the range in which the true offset is, if more than half of the candidates agree: where most of their
// intervals overlap. A candidate that is not within it is a false ticker. It fails if no majority agrees, as when there
// are two and they differ, or if two ranges have equally many votes.
//
// RFC 5905, 11.2.1, also demands that the middles of the intervals are inside. A busy device processes the answers of a
// right server late, in one direction only, and then the middle is as wrong as the server says it can be: only the ends
// of an interval are guaranteed.
func Select(list []Candidate) (Span, bool) {
	type edge struct {
		at   time.Duration
		kind int // -1 begins an interval, +1 ends it
	}
	var edges []edge
	for _, c := range list {
		edges = append(edges, edge{c.Offset - c.Distance, -1}, edge{c.Offset + c.Distance, +1})
	}
	slices.SortStableFunc(edges, func(a, b edge) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.kind, b.kind))
	})
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
			// the number of votes is at its highest so far, so an end follows; if it becomes higher, this is replaced
			s = Span{e.at, edges[i+1].at}
		}
	}
	return s, 2*most > len(list) && ranges == 1
}
