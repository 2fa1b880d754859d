package loop

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// TestDo: the caller goes on after the loop has done it, or has an error and the loop has not done it.
func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, done := NewCalls(), false
		go func() { (<-c.C())() }()
		if err := c.Do(t.Context(), func() { done = true }); err != nil || !done {
			t.Errorf("done %t, %v", done, err)
		}
		reason := errors.New("reason")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(reason)
		never := func() { t.Error("called after the caller has gone") }
		if err := c.Do(ctx, never); err != reason {
			t.Errorf("a cancelled call returns %v", err)
		}
		result := make(chan error, 1)
		go func() { result <- c.Do(t.Context(), never) }()
		synctest.Wait()
		c.End()
		if err := <-result; err != ErrEnded {
			t.Errorf("a call returns %v when the loop ends", err)
		}
		<-c.Ended()
	})
}

// TestPost: what has lost its meaning between the call and its turn is not done.
func TestPost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, count := NewCalls(), 0
		add := func() { count++ }
		ctx, cancel := context.WithCancel(t.Context())
		go c.Post(ctx, add)
		(<-c.C())()
		if count != 1 {
			t.Errorf("called %d times, want once", count)
		}
		go c.Post(ctx, add)
		call := <-c.C() // its turn has come,
		cancel()        // but before it does anything
		call()
		c.Post(ctx, add) // returns without a loop
		go c.Post(t.Context(), add)
		synctest.Wait()
		c.End()
		if count != 1 {
			t.Errorf("called %d times in all, want once", count)
		}
	})
}

// TestQueue: nothing is lost between senders and the loop, and one token is enough for all.
func TestQueue(t *testing.T) {
	q := NewQueue[int]()
	var senders sync.WaitGroup
	for i := range 100 {
		senders.Go(func() {
			q.Add(i)
			q.Mark()
		})
	}
	senders.Wait()
	<-q.Wake()
	values, marked := q.Take()
	slices.Sort(values)
	if len(values) != 100 || values[0] != 0 || values[99] != 99 || !marked {
		t.Errorf("took %v, marked %t", values, marked)
	}
	if values, marked := q.Take(); values != nil || marked {
		t.Errorf("took %v, %t from an empty queue", values, marked)
	}
	select {
	case <-q.Wake():
		t.Error("an empty queue wakes the loop")
	default:
	}
}
