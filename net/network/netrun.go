package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"resinos/net/hooks"
	"resinos/net/ownrules"
	"resinos/services/cgroup"
	"resinos/services/control"
	"resinos/services/notify"
)

// The program netrun starts programs for netd, which itself may start none: the owner's hooks, and nft for the owner's
// rules. PID 1 holds its socket, so that a device without hooks and rules never starts it.
const (
	netrunSocket = "/run/resinos/netrun.sock"
	opEvent      = "event" // takes a hooks.Event
	opRules      = "rules" // returns []ownrules.File
)

// The limits of netrun.
const (
	netrunIdle = 20 * time.Second // without work, after which it ends
	mostEvents = 256              // that wait for scripts
)

// runner answers netd.
type runner struct {
	hooks  hooks.Runner
	events chan hooks.Event
	used   chan struct{} // something was asked for, or has been done
	busy   atomic.Int64  // events that wait or run
	log    *slog.Logger

	loading sync.Mutex // one nft at a time
}

// netrun answers on the socket of PID 1 until it has had no work for a while.
func netrun(ctx context.Context, log *slog.Logger) error {
	kept := notify.FromParent(os.Getenv, os.Getpid())
	if len(kept) == 0 {
		return errors.New("netrun: no socket from PID 1; netd asks for it when a hook or a file of rules is there")
	}
	r := &runner{hooks: hooks.Runner{Dir: hooks.Dir, Log: log, Groups: scriptGroups(log)},
		events: make(chan hooks.Event, mostEvents), used: make(chan struct{}, 1), log: log}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	work.Go(func() { r.work(ctx) })
	work.Go(func() { r.watchIdle(ctx, cancel) })
	socket := os.NewFile(uintptr(kept[0].FD), "socket")
	err := control.Server{Socket: socket, Handlers: r.handlers(), Log: log}.Run(ctx)
	cancel(nil)
	work.Wait()
	r.hooks.Wait()
	if errors.Is(err, errIdle) {
		return nil
	}
	return err
}

var errIdle = errors.New("nothing to do")

func (r *runner) handlers() map[string]control.Handler {
	return map[string]control.Handler{
		opEvent: func(_ context.Context, args json.RawMessage) (any, error) {
			var e hooks.Event
			if err := control.Args(args, &e); err != nil {
				return nil, err
			}
			r.busy.Add(1)
			select {
			case r.events <- e:
				return nil, nil
			default:
				r.done()
				return nil, &control.Error{Text: "too many events wait for scripts"}
			}
		},
		opRules: func(ctx context.Context, _ json.RawMessage) (any, error) {
			r.loading.Lock()
			defer r.loading.Unlock()
			r.busy.Add(1)
			defer r.done()
			return ownrules.Loader{Log: r.log}.Load(ctx)
		},
	}
}

// work runs the scripts of one event after the other until ctx ends.
func (r *runner) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-r.events:
			r.hooks.Run(ctx, e)
			r.done()
		}
	}
}

func (r *runner) done() {
	r.busy.Add(-1)
	select {
	case r.used <- struct{}{}:
	default: // the last one has not been seen yet
	}
}

func (r *runner) watchIdle(ctx context.Context, end context.CancelCauseFunc) {
	timer := time.NewTimer(netrunIdle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.used:
		case <-timer.C:
			if r.busy.Load() == 0 && !r.hooks.Busy() {
				end(errIdle)
				return
			}
		}
		timer.Reset(netrunIdle)
	}
}

// scriptGroups returns the tree for cgroups of scripts, below the one that PID 1 has delegated; nil: there is none, and
// only process groups are killed. What scripts of an earlier life left is killed.
func scriptGroups(log *slog.Logger) *cgroup.Tree {
	root := filepath.Join(cgroup.Root, "netrun", "hooks")
	tree, err := cgroup.Open(root)
	if err != nil {
		log.Warn("no cgroups for hooks", "error", err)
		return nil
	}
	list, err := os.ReadDir(root)
	if err != nil {
		log.Warn("cgroups of hooks not listed", "error", err)
	}
	for _, e := range list {
		if e.IsDir() && strings.HasPrefix(e.Name(), "hook") {
			_ = tree.Kill(e.Name())   // the next start tries again
			_ = tree.Remove(e.Name()) // the same
		}
	}
	return tree
}
