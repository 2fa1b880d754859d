package appserver

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"resinos/containers/appcontrol"
	"resinos/services/control"
)

const (
	// jobIdle is how long a job continues while nobody asks for its progress, because the client that began it has
	// ended.
	jobIdle = 30 * time.Second
	// jobKept limits the number of jobs at once.
	jobKept = 16
	// progressEvery is how long a request for progress waits for the end of the job.
	progressEvery = time.Second
)

// jobs is the work that people have begun and wait for. The zero jobs is ready.
type jobs struct {
	all sync.WaitGroup

	mu   sync.Mutex // guards the rest
	last int
	list map[string]*job
}

// job is one piece of work.
type job struct {
	image  string // the image that is pulled; empty: an archive is loaded
	cancel context.CancelFunc
	idle   *time.Timer
	ended  chan struct{} // closed by its goroutine

	names []string // when ended
	err   error
}

// begin starts work that ends with ctx, or when nobody asks for its progress any more.
func (j *jobs) begin(ctx context.Context, image string, work func(context.Context) ([]string, error)) (any, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.list) >= jobKept {
		return nil, &control.Error{Text: fmt.Sprintf("%d pulls and loads are under way", jobKept),
			Hint: "try again later"}
	}
	if j.list == nil {
		j.list = map[string]*job{}
	}
	j.last++
	id := strconv.Itoa(j.last)
	ctx, cancel := context.WithCancel(ctx)
	one := &job{image: image, cancel: cancel, ended: make(chan struct{})}
	one.idle = time.AfterFunc(jobIdle, func() {
		cancel()
		j.forget(id)
	})
	j.list[id] = one
	j.all.Go(func() {
		defer cancel()
		defer close(one.ended)
		one.names, one.err = work(ctx)
	})
	return appcontrol.Job{ID: id}, nil
}

func (j *jobs) forget(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.list, id)
}

// wait returns a job when it has ended, or after progressEvery.
func (j *jobs) wait(ctx context.Context, id string) (one *job, ended bool, err error) {
	j.mu.Lock()
	one = j.list[id]
	j.mu.Unlock()
	if one == nil {
		return nil, false, &control.Error{Text: "what was begun is no longer under way: the manager was started again",
			Hint: "type the command again: what was fetched is not fetched again"}
	}
	one.idle.Reset(jobIdle)
	moment := time.NewTimer(progressEvery)
	defer moment.Stop()
	select {
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	case <-moment.C:
		return one, false, nil
	case <-one.ended:
		one.idle.Stop()
		j.forget(id)
		return one, true, one.err
	}
}
