package workload

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"resinos/containers/plan"
)

// workers carries out steps, in one goroutine for each container, so that a slow import, or a program that does not
// end, delays no other container.
type workers struct {
	engine  Engine
	ctx     context.Context
	cancel  context.CancelFunc
	results chan result
	busy    map[string]bool    // of the goroutine that calls start and done
	images  singleflight.Group // one import of an image at a time
	cpu     *semaphore.Weighted
}

// task is the work for one container.
type task struct {
	id    string
	steps []plan.Step
	want  *plan.Want // nil: the container is only removed
	grace time.Duration
}

// result is the result of a task.
type result struct {
	id   string
	done []done
	err  error // of the step after the last one done
}

type done struct {
	verb   plan.Verb
	status uint32 // of Reap and Stop
}

func newWorkers(ctx context.Context, engine Engine) *workers {
	ctx, cancel := context.WithCancel(ctx)
	return &workers{
		engine: engine, ctx: ctx, cancel: cancel,
		results: make(chan result), busy: map[string]bool{},
		cpu: semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0) + 1)),
	}
}

func (w *workers) start(t task) {
	w.busy[t.id] = true
	go func() { w.results <- w.run(t) }()
}

func (w *workers) done(id string) { delete(w.busy, id) }

// stop cancels all work, waits for its end and passes on the results.
func (w *workers) stop(take func(result)) {
	w.cancel()
	for len(w.busy) > 0 {
		take(<-w.results)
	}
}

func (w *workers) run(t task) result {
	r := result{id: t.id}
	for _, s := range t.steps {
		status, err := w.step(t, s)
		if err != nil {
			r.err = fmt.Errorf("%s %s: %w", s.Verb, t.id, err)
			return r
		}
		r.done = append(r.done, done{s.Verb, status})
	}
	return r
}

// step carries out one step. The number of steps that use the processor is limited; that of steps that wait is not.
func (w *workers) step(t task, s plan.Step) (status uint32, err error) {
	ctx := w.ctx
	switch s.Verb {
	case plan.Stop:
		return w.engine.Stop(ctx, t.id, t.grace)
	case plan.Reap:
		return w.engine.Reap(ctx, t.id)
	case plan.Note:
		return 0, w.engine.Note(ctx, t.id, s.Mark, s.Value)
	}
	if err := w.cpu.Acquire(ctx, 1); err != nil {
		return 0, err
	}
	defer w.cpu.Release(1)
	switch s.Verb {
	case plan.Import:
		return 0, w.once(t.want.Preload.Path, func() error { return w.engine.Import(ctx, *t.want.Preload) })
	case plan.Create:
		return 0, w.engine.Create(ctx, *t.want)
	case plan.Start:
		return 0, w.engine.Start(ctx, t.want.Container)
	case plan.Delete:
		return 0, w.engine.Delete(ctx, t.id)
	}
	return 0, fmt.Errorf("no such step %q", s.Verb)
}

func (w *workers) once(key string, f func() error) error {
	_, err, _ := w.images.Do(key, func() (any, error) { return nil, f() })
	return err
}
