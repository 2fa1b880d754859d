package loop

import "sync"

// Queue takes values for the loop and never makes the sender wait. Its length has no limit: the sender must have one.
// It also takes one mark, which may be set any number of times.
type Queue[T any] struct {
	wake chan struct{} // holds one token while there is something to take

	mu     sync.Mutex // guards the rest
	values []T
	marked bool
}

// NewQueue returns an empty Queue.
func NewQueue[T any]() *Queue[T] { return &Queue[T]{wake: make(chan struct{}, 1)} }

// Wake delivers once after any number of calls of Add and Mark.
func (q *Queue[T]) Wake() <-chan struct{} { return q.wake }

// Add appends v.
func (q *Queue[T]) Add(v T) {
	q.mu.Lock()
	q.values = append(q.values, v)
	q.mu.Unlock()
	q.ring()
}

// Mark sets the mark.
func (q *Queue[T]) Mark() {
	q.mu.Lock()
	q.marked = true
	q.mu.Unlock()
	q.ring()
}

func (q *Queue[T]) ring() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Take empties the queue and removes the mark.
func (q *Queue[T]) Take() (values []T, marked bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	values, marked = q.values, q.marked
	q.values, q.marked = nil, false
	return values, marked
}
