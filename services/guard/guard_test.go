package guard

import (
	"strings"
	"testing"
)

func TestCaught(t *testing.T) {
	told := make(chan string, 2)
	g := &Guard{Caught: func(name string, cause any, stack []byte) {
		if !strings.Contains(string(stack), "TestCaught") {
			t.Errorf("the stack does not name the place:\n%s", stack)
		}
		told <- name + ": " + cause.(string)
	}}
	g.Go("loop", func() { panic("oops") })
	if got := <-told; got != "loop: oops" {
		t.Errorf("told %q", got)
	}
	done := make(chan struct{})
	g.Go("fine", func() { close(done) })
	<-done
	func() {
		defer g.Catch("here")
		defer func() { panic("second") }() // replaces the first
		panic("first")
	}()
	if got := <-told; got != "here: second" {
		t.Errorf("told %q", got)
	}
	if len(told) != 0 {
		t.Error("a goroutine that ended well is told of")
	}
}

func TestNilGuardLetsThrough(t *testing.T) {
	for _, g := range []*Guard{nil, {}} {
		func() {
			defer func() {
				if recover() != "through" {
					t.Errorf("Guard %v holds a panic", g)
				}
			}()
			defer g.Catch("x")
			panic("through")
		}()
	}
}
