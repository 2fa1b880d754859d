package transaction

import "math/bits"

// queue is a set of service numbers from which the lowest is taken first. It is a bit set, so it
// costs a bit a service, never allocates and cannot grow.
type queue struct {
	words []uint64
	low   int // no word below holds a bit
	size  int
}

func (q *queue) grow(n int) { q.words = make([]uint64, (n+63)/64) }

// add puts i into the set; a second time changes nothing.
func (q *queue) add(i int) {
	word, bit := i/64, uint64(1)<<(i%64)
	if q.words[word]&bit != 0 {
		return
	}
	q.words[word] |= bit
	q.size++
	q.low = min(q.low, word)
}

// take removes the lowest number; ok is false when the set is empty.
func (q *queue) take() (i int, ok bool) {
	if q.size == 0 {
		return 0, false
	}
	for q.words[q.low] == 0 {
		q.low++
	}
	word := q.words[q.low]
	q.words[q.low] = word & (word - 1)
	q.size--
	return q.low*64 + bits.TrailingZeros64(word), true
}
