package clock

import (
	"cmp"
	"slices"
	"time"
)

// Candidate is what one server says: the true time lies within Distance of Offset.
type Candidate struct {
	Offset   time.Duration // true time minus ours
	Distance time.Duration // root distance (RFC 5905, appendix A.5.5.2): what delays and dispersions can have hidden, at most
}

// Span is a range of offsets.
type Span struct {
	Low, High time.Duration
}

// Within reports whether what c says can be true if the true offset lies in the span.
func (s Span) Within(c Candidate) bool {
	return c.Offset-c.Distance <= s.High && c.Offset+c.Distance >= s.Low
}

// Select returns the range in which the true offset lies, if more than half of the candidates say so: the intersection
// algorithm of RFC 5905, 11.2.1. Who is not within it is a false ticker. It fails if no majority agrees, as when there are two and
// they differ.
func Select(list []Candidate) (Span, bool) {
	type edge struct {
		at   time.Duration
		kind int // -1 begins an interval, 0 is its middle, +1 ends it
	}
	var edges []edge
	for _, c := range list {
		edges = append(edges, edge{c.Offset - c.Distance, -1}, edge{c.Offset, 0}, edge{c.Offset + c.Distance, +1})
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.kind, b.kind)) })
	n := len(list)
	for liars := 0; 2*liars < n; liars++ {
		outside, count := 0, 0
		var s Span
		low, high := false, false
		for _, e := range edges {
			if count -= e.kind; count >= n-liars {
				s.Low, low = e.at, true
				break
			}
			if e.kind == 0 {
				outside++
			}
		}
		count = 0
		for _, e := range slices.Backward(edges) {
			if count += e.kind; count >= n-liars {
				s.High, high = e.at, true
				break
			}
			if e.kind == 0 {
				outside++
			}
		}
		// The middles of all but the liars must lie inside, too.
		if low && high && s.Low <= s.High && outside <= liars {
			return s, true
		}
	}
	return Span{}, false
}
