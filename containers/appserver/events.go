package appserver

import (
	"context"
	"slices"
	"sync"
	"time"

	"resinos/containers/appcontrol"
	"resinos/services/boottime"
)

// maxEvents is how many events are kept for clients that ask later.
const maxEvents = 256

// Events keeps the last events and wakes the clients that wait for the next one. The zero Events is ready.
type Events struct {
	mu   sync.Mutex // guards the rest
	last uint64
	list []appcontrol.Event
	more chan struct{} // closed by the next Add; nil: no client waits
}

// Add keeps one more event.
func (e *Events) Add(container, what, detail string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last++
	if len(e.list) == maxEvents {
		e.list = slices.Delete(e.list, 0, 1)
	}
	e.list = append(e.list, appcontrol.Event{Seq: e.last, At: boottime.Now().Seconds(),
		Time: time.Now().UTC().Format(time.RFC3339Nano), Container: container, What: what, Detail: detail})
	if e.more != nil {
		close(e.more)
		e.more = nil
	}
}

// After returns the events after a number. A number greater than the last one is from an earlier manager: then it
// returns all events.
func (e *Events) After(seq uint64) (list []appcontrol.Event, more <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if seq > e.last {
		seq = 0
	}
	for _, event := range e.list {
		if event.Seq > seq {
			list = append(list, event)
		}
	}
	if e.more == nil {
		e.more = make(chan struct{})
	}
	return list, e.more
}

// eventsWait is how long a client waits before it gets an answer without events. It then asks again.
const eventsWait = time.Minute

func (e *Events) wait(ctx context.Context, w appcontrol.Watch) []appcontrol.Event {
	ctx, cancel := context.WithTimeout(ctx, eventsWait)
	defer cancel()
	for {
		list, more := e.After(w.After)
		if len(list) > 0 || w.Now {
			return list
		}
		select {
		case <-ctx.Done():
			return nil
		case <-more:
		}
	}
}
