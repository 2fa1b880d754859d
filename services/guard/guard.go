// Package guard catches panics: a panic in a goroutine under a Guard never ends the process, and the Guard informs its
// creator. It never decides what happens then; PID 1 saves its state and re-executes itself. Read Guard first.
package guard

import "runtime/debug"

// Guard catches the panics of the goroutines that run under it. A nil Guard does not catch them, for tests and small
// daemons.
type Guard struct {
	// Caught is called with the goroutine that panicked, the cause and the stack. It runs in that goroutine, after its
	// deferred functions except those above Catch; several may call it at once. The goroutine ends when it returns.
	Caught func(name string, cause any, stack []byte)
}

// Go runs f in a goroutine of its own under the guard.
func (g *Guard) Go(name string, f func()) {
	go func() {
		defer g.Catch(name)
		f()
	}()
}

// Catch must be the first deferred call of a goroutine that was started without Go. name identifies the goroutine.
func (g *Guard) Catch(name string) {
	if g == nil || g.Caught == nil {
		return // without recover the panic continues
	}
	if cause := recover(); cause != nil {
		g.Caught(name, cause, debug.Stack())
	}
}
