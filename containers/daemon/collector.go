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
	// collectAfter combines a burst of removals into one collection.
	collectAfter = time.Second
	// collectFirst is the time of the first collection, after the boot.
	collectFirst = 30 * time.Second
)

// garbage is a store with garbage; containerd's metadata store is one.
type garbage interface {
	RegisterMutationCallback(func(removed bool))
	GarbageCollect(context.Context) (gc.Stats, error)
}

// collector removes content and snapshots that nothing refers to any more: some time after a removal, and on request.
// It replaces containerd's scheduler, which links a metrics library and collects while the first containers start.
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
		default: // a removal is recorded already
		}
	})
	go c.run(ctx)
	return c
}

// ScheduleAndWait collects now and returns how long it took.
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
	soon := false // the timer runs because of a removal
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
