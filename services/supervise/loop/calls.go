// Package loop hands functions and values from any goroutine to the one goroutine that owns the state, the loop of the
// supervisor. The loop therefore needs no lock. This package starts no goroutine. Read Calls first.
package loop

import (
	"context"
	"errors"
)

// ErrEnded means that the loop can no longer do what was asked.
var ErrEnded = errors.New("the supervisor has stopped")

// Calls are functions for the loop, which receives them from C and calls each.
type Calls struct {
	c     chan func()
	ended chan struct{} // closed by End
}

// NewCalls returns Calls that nobody has asked for anything yet.
func NewCalls() *Calls { return &Calls{c: make(chan func()), ended: make(chan struct{})} }

// C delivers the functions. Only the loop receives from it.
func (c *Calls) C() <-chan func() { return c.c }

// End makes all waiting and later calls of Do and Post return. The loop calls it once, at its end.
func (c *Calls) End() { close(c.ended) }

// Ended is closed by End.
func (c *Calls) Ended() <-chan struct{} { return c.ended }

// Do has the loop call do, and returns after that. If ctx ends or the loop has ended before, do is not called and Do
// returns an error.
func (c *Calls) Do(ctx context.Context, do func()) error {
	over := make(chan struct{}) // closed by the loop, after do
	select {
	case c.c <- func() { defer close(over); do() }:
		<-over
		return nil
	case <-c.ended:
		return ErrEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Post has the loop call do, unless ctx ends first. The loop may cancel ctx when do is no longer needed.
func (c *Calls) Post(ctx context.Context, do func()) {
	alive := func() {
		if ctx.Err() == nil {
			do()
		}
	}
	select {
	case c.c <- alive:
	case <-ctx.Done():
	case <-c.ended:
	}
}
