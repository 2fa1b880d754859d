// Package guard owns what becomes of a panic: a goroutine that runs under a Guard never ends the process, and whoever made the
// Guard is told. It never decides what happens then; PID 1 saves its state and executes itself again. Read Guard first.
package guard

import "runtime/debug"

// Guard catches the panics of the goroutines that run under it. A nil Guard lets them through, which is what tests and small
// daemons want.
type Guard struct {
	// Caught is told which goroutine panicked, with what and where. It is called in that goroutine, after its deferred
	// functions but those above Catch; several may call it at once. The goroutine ends when it returns.
	Caught func(name string, cause any, stack []byte)
}

// Go runs f in a goroutine of its own under the guard.
func (g *Guard) Go(name string, f func()) {
	go func() {
		defer g.Catch(name)
		f()
	}()
}

// Catch is to be deferred, first thing, by a goroutine that was started otherwise. Its name says which goroutine it is.
func (g *Guard) Catch(name string) {
	if g == nil || g.Caught == nil {
		return // without recover the panic goes on
	}
	if cause := recover(); cause != nil {
		g.Caught(name, cause, debug.Stack())
	}
}
