package engineclient

import (
	"context"
	"math"
	"sync"

	"golang.org/x/sync/semaphore"
)

// shims keeps the creation and the deletion of tasks of one app from running at once. containerd's shim ends when its
// last task is deleted, and does not count a task that is being created: the creation would be lost and the shim would
// hang, so that no later start of the app succeeds. Several creations may run at once, and so may deletions of other
// apps.
//
// The zero value is ready.
type shims struct {
	mu   sync.Mutex // guards apps
	apps map[string]*gate
}

// gate is the state of one app. It exists while a creation or deletion runs or waits.
type gate struct {
	*semaphore.Weighted
	users int
}

// create waits until no task of the app is being deleted. The returned function ends the creation.
func (s *shims) create(ctx context.Context, app string) (done func()) { return s.take(ctx, app, 1) }

// delete waits until no task of the app is being created. The returned function ends the deletion.
func (s *shims) delete(ctx context.Context, app string) (done func()) {
	return s.take(ctx, app, math.MaxInt64)
}

// take waits for silentLimit at most: a shim that hangs must not keep the app from being stopped.
func (s *shims) take(ctx context.Context, app string, n int64) (done func()) {
	s.mu.Lock()
	if s.apps == nil {
		s.apps = map[string]*gate{}
	}
	g := s.apps[app]
	if g == nil {
		g = &gate{Weighted: semaphore.NewWeighted(math.MaxInt64)}
		s.apps[app] = g
	}
	g.users++
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, silentLimit)
	defer cancel()
	err := g.Acquire(ctx, n)
	return func() {
		if err == nil {
			g.Release(n)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if g.users--; g.users == 0 {
			delete(s.apps, app)
		}
	}
}
