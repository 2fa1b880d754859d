package workload

import (
	"context"
	"time"
)

// connect waits for the engine. Meanwhile it sends watchdog messages, because a manager without an engine does not
// hang.
func (m *Manager) connect(ctx context.Context) (changes <-chan struct{}, err error) {
	connected := make(chan struct{})
	go func() {
		defer close(connected)
		changes, err = m.c.Engine.Connect(ctx)
	}()
	for {
		m.c.Alive.Beat()
		select {
		case <-connected:
			return changes, err
		case q := <-m.c.Orders.queue():
			q.done <- errNoEngine
		case <-time.After(m.c.Alive.Left()):
		}
	}
}
