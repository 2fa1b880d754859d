package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/pkg/gc"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
)

const (
	// collectAfter lets a burst of removals be one collection.
	collectAfter = time.Second
	// collectFirst is when what an earlier life left is looked for: not while the device starts.
	collectFirst = 30 * time.Second
)

// garbage is what the collector collects; containerd's metadata store is one.
type garbage interface {
	RegisterMutationCallback(func(removed bool))
	GarbageCollect(context.Context) (gc.Stats, error)
}

// collector removes content and snapshots that nothing refers to any more: some time after
// something was removed, and when asked. It stands in for containerd's scheduler, which links a
// metrics library and collects while the first containers start.
type collector struct {
	store    garbage
	removed  chan struct{} // one value stands for any number of removals
	requests chan chan outcome
}

type outcome struct {
	stats gc.Stats
	err   error
}

func collectorPlugin() *plugin.Registration {
	return &plugin.Registration{
		Type: plugins.GCPlugin, ID: "scheduler",
		Requires: []plugin.Type{plugins.MetadataPlugin},
		InitFn: func(ic *plugin.InitContext) (any, error) {
			store, err := ic.GetSingle(plugins.MetadataPlugin)
			if err != nil {
				return nil, err
			}
			db, ok := store.(*metadata.DB)
			if !ok {
				return nil, fmt.Errorf("metadata store is a %T", store)
			}
			return startCollector(ic.Context, db), nil
		},
	}
}

// startCollector's goroutine ends with ctx.
func startCollector(ctx context.Context, store garbage) *collector {
	c := &collector{store: store, removed: make(chan struct{}, 1), requests: make(chan chan outcome)}
	store.RegisterMutationCallback(func(removed bool) {
		if !removed {
			return
		}
		select {
		case c.removed <- struct{}{}:
		default: // already noted
		}
	})
	go c.run(ctx)
	return c
}

// ScheduleAndWait collects now and returns what it took.
func (c *collector) ScheduleAndWait(ctx context.Context) (gc.Stats, error) {
	reply := make(chan outcome, 1)
	select {
	case c.requests <- reply:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case o := <-reply:
		return o.stats, o.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *collector) run(ctx context.Context) {
	timer := time.NewTimer(collectFirst)
	defer timer.Stop()
	soon := false // the timer stands for a removal
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.removed:
			if !soon {
				soon = true
				timer.Reset(collectAfter)
			}
		case <-timer.C:
			soon = false
			// a failure is tried again with the next removal or start; nothing is lost by it
			_, _ = c.store.GarbageCollect(ctx)
		case reply := <-c.requests:
			stats, err := c.store.GarbageCollect(ctx)
			reply <- outcome{stats, err}
		}
	}
}
