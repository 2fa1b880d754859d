package engineclient

import (
	"context"
	"testing"
	"testing/synctest"
)

// TestShims: a deletion waits for the creations of its app and for nothing else, and a creation for the deletion.
func TestShims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shims
		one, two := s.create(t.Context(), "web"), s.create(t.Context(), "web")
		s.delete(t.Context(), "other")()
		steps := make(chan string, 2)
		go func() {
			done := s.delete(t.Context(), "web")
			steps <- "deleted"
			done()
		}()
		synctest.Wait()
		go func() {
			s.create(t.Context(), "web")()
			steps <- "created"
		}()
		one()
		synctest.Wait()
		if len(steps) != 0 {
			t.Fatalf("%s while a task was being created", <-steps)
		}
		two()
		synctest.Wait()
		if first := <-steps; first != "deleted" || <-steps != "created" {
			t.Errorf("first %s", first)
		}
		synctest.Wait()
		if len(s.apps) != 0 {
			t.Errorf("kept of apps that nobody works on: %v", s.apps)
		}
	})
}

// TestShimsHung: a creation that never ends holds up nothing for good.
func TestShimsHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shims
		s.create(t.Context(), "web")
		s.delete(t.Context(), "web")()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s.delete(ctx, "web")()
	})
}
