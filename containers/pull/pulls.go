package pull

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os/exec"
	"slices"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"golang.org/x/sync/semaphore"

	"resinos/containers/fetcher"
)

// Config holds everything that differs between the device and a test.
type Config struct {
	// Client returns the current connection to the engine, nil while there is none, and ctx with the engine's namespace
	// of the apps.
	Client func(context.Context) (*containerd.Client, context.Context)
	// Snapshotter is the snapshotter for unpacked images.
	Snapshotter string
	// Platform matches the platforms that the device can run.
	Platform platforms.MatchComparer
	// Fetcher returns a fetcher for an image, not yet started.
	Fetcher func(image string) *exec.Cmd
	// Free returns the free bytes of the file system with the images.
	Free func() (int64, error)
	// MakeRoom gets the number of bytes that are missing, and may remove images that no app needs; may be nil.
	MakeRoom func(ctx context.Context, bytes int64)
	// Writing is called before images are written; the function that it returns is called afterwards. May be nil.
	Writing func() (end func())
	// ClockIsRight reports whether the clock is synchronised.
	ClockIsRight func() bool
	// Images and Blobs limit how many of each are fetched at once.
	Images, Blobs int
	// Delay returns how long to wait after a number of failures in a row; nil: the delay of this package.
	Delay func(c Cause, failures int) time.Duration
	Log   *slog.Logger
}

// The limits of a device: more at once would delay each, and take memory.
const (
	DefaultImages = 2
	DefaultBlobs  = 3
)

// Pulls fetches the wanted images, and tries without end. Its methods may be called from any goroutine.
type Pulls struct {
	c       Config
	ctx     context.Context
	cancel  context.CancelFunc
	slots   *semaphore.Weighted // images
	blobs   *semaphore.Weighted
	changed chan struct{} // never closed; one value stands for any number of changes
	all     sync.WaitGroup

	mu     sync.Mutex // guards the rest
	jobs   map[string]*job
	asked  map[string]*job          // of people, in addition to the wanted ones
	trying map[string]chan struct{} // images with a running attempt; closed at its end
}

// Status is the state of the pull of one image.
type Status struct {
	Image    string
	Layers   []Layer
	Waiting  bool // until others have been fetched
	Failures int  // in a row
	Cause    Cause
	Err      error // the last fault; nil while the first attempt runs
	Next     time.Time
}

// Sum returns the fetched bytes and the size of all layers. Both are 0 while the size is not known.
func (s Status) Sum() (done, size int64) {
	for _, l := range s.Layers {
		done, size = done+l.Done, size+l.Size
	}
	return done, size
}

// job is one image that is wanted.
type job struct {
	cancel context.CancelFunc
	tally  *tally
	status Status // without Layers
}

// New returns pulls that continue until ctx is done or Close is called.
func New(ctx context.Context, c Config) *Pulls {
	ctx, cancel := context.WithCancel(ctx)
	if c.Delay == nil {
		c.Delay = func(c Cause, failures int) time.Duration { return delay(c, failures, rand.Float64()) }
	}
	return &Pulls{
		c: c, ctx: ctx, cancel: cancel, changed: make(chan struct{}, 1),
		jobs: map[string]*job{}, asked: map[string]*job{}, trying: map[string]chan struct{}{},
		slots: semaphore.NewWeighted(int64(c.Images)), blobs: semaphore.NewWeighted(int64(c.Blobs)),
	}
}

// Close ends all pulls and waits for them. What they have fetched is kept.
func (p *Pulls) Close() {
	p.cancel()
	p.all.Wait()
}

// Changed gets a value when a pull has ended, failed or made progress.
func (p *Pulls) Changed() <-chan struct{} { return p.changed }

func (p *Pulls) tell() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// Want makes Pulls fetch exactly these images. It ends pulls that are not wanted any more, and drops their bytes.
func (p *Pulls) Want(images []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, image := range slices.Sorted(maps.Keys(p.jobs)) {
		if !slices.Contains(images, image) {
			p.jobs[image].cancel() // it drops the rest
			delete(p.jobs, image)
		}
	}
	for _, image := range images {
		if p.jobs[image] == nil && p.ctx.Err() == nil {
			ctx, cancel := context.WithCancel(p.ctx)
			j := &job{cancel: cancel, tally: newTally(p.tell), status: Status{Image: image, Waiting: true}}
			p.jobs[image] = j
			p.all.Go(func() { p.run(ctx, j) })
		}
	}
}

// Once makes one attempt to fetch an image, beside those that are wanted.
func (p *Pulls) Once(ctx context.Context, image string) error {
	return p.try(ctx, &job{tally: newTally(p.tell), status: Status{Image: image}})
}

// Ask fetches an image for a person, beside those that are wanted. It tries again as long as each attempt brings bytes,
// and ends with the first failure that brought none; fetched bytes stay for the next attempt.
func (p *Pulls) Ask(ctx context.Context, image string) error {
	j := &job{tally: newTally(p.tell), status: Status{Image: image}}
	p.mu.Lock()
	p.asked[image] = j
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.asked[image] == j {
			delete(p.asked, image)
		}
		p.tell()
	}()
	for {
		right := p.c.ClockIsRight()
		err := p.try(ctx, j)
		if err == nil || ctx.Err() != nil {
			return err
		}
		cause := CauseOf(err)
		if !j.tally.moved() || cause != Again && cause != Cause(fetcher.Offline) && cause != Cause(fetcher.NoRange) {
			p.giveUp(ctx, image, cause)
			return said(err)
		}
		p.await(ctx, cause, p.failed(j, err), right)
	}
}

// hopeless are the causes after which another attempt fails too until somebody changes the image, a login or a setting.
var hopeless = map[Cause]bool{Lied: true, Unfit: true, Cause(fetcher.Denied): true, Cause(fetcher.Settings): true,
	Cause(fetcher.Untrusted): true}

// giveUp drops the bytes of an image whose pull by a person has failed, unless the image is also wanted.
func (p *Pulls) giveUp(ctx context.Context, image string, cause Cause) {
	p.mu.Lock()
	wanted := p.jobs[image] != nil
	p.mu.Unlock()
	if client, ctx := p.c.Client(ctx); client != nil && hopeless[cause] && !wanted {
		p.release(ctx, client, image)
	}
}

// Asked lists the images that are being fetched for people.
func (p *Pulls) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.asked))
}

// Status returns the state of the pull of an image, and false if there is none.
func (p *Pulls) Status(image string) (Status, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j := p.jobs[image]
	if j == nil {
		j = p.asked[image]
	}
	if j == nil {
		return Status{}, false
	}
	s := j.status
	s.Layers = j.tally.sum()
	return s, true
}

// run tries until the image is there or is not wanted any more.
func (p *Pulls) run(ctx context.Context, j *job) {
	defer j.cancel()
	for {
		right := p.c.ClockIsRight()
		err := p.try(ctx, j)
		if ctx.Err() != nil {
			p.drop(j)
			return
		}
		if err == nil {
			p.mu.Lock()
			if p.jobs[j.status.Image] == j {
				delete(p.jobs, j.status.Image)
			}
			p.mu.Unlock()
			p.c.Log.Info("container image pulled", "image", j.status.Image)
			p.tell()
			return
		}
		p.await(ctx, CauseOf(err), p.failed(j, err), right)
	}
}

// turn waits until no other attempt for the image runs: two would wait for each other's blobs, and the first to end
// would release the bytes that the second has fetched.
func (p *Pulls) turn(ctx context.Context, image string) (done func(), err error) {
	for {
		p.mu.Lock()
		other := p.trying[image]
		if other == nil {
			ended := make(chan struct{})
			p.trying[image] = ended
			p.mu.Unlock()
			return func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				delete(p.trying, image)
				close(ended)
			}, nil
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-other:
		}
	}
}

// try waits for its turn and makes one attempt.
func (p *Pulls) try(ctx context.Context, j *job) error {
	p.set(j, func(s *Status) { s.Waiting, s.Next = true, time.Time{} })
	done, err := p.turn(ctx, j.status.Image)
	if err != nil {
		return err
	}
	defer done()
	if err := p.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer p.slots.Release(1)
	p.set(j, func(s *Status) { s.Waiting = false })
	client, ctx := p.c.Client(ctx)
	if client == nil {
		return errNoEngine
	}
	if p.c.Writing != nil {
		defer p.c.Writing()()
	}
	a := attempt{c: p.c, client: client, image: j.status.Image, layers: p.blobs, tally: j.tally}
	err = a.run(ctx)
	if err != nil && CauseOf(err) == NoSpace {
		p.release(ctx, client, j.status.Image) // a full disk affects everything, so the bytes of this image are dropped
	}
	return err
}

// failed records a failure and returns how long to wait.
func (p *Pulls) failed(j *job, err error) time.Duration {
	cause := CauseOf(err)
	moved := j.tally.moved()
	var wait time.Duration
	p.set(j, func(s *Status) {
		if s.Cause != cause || moved && cause == Cause(fetcher.Offline) {
			s.Failures = 0 // an unreliable link still brings the image in the end
		}
		s.Failures++
		wait = p.c.Delay(cause, s.Failures)
		s.Cause, s.Err, s.Next = cause, said(err), time.Now().Add(wait)
	})
	p.c.Log.Warn("container image not pulled", "image", j.status.Image, "retry", wait.Round(time.Second),
		"error", said(err))
	p.tell()
	return wait
}

func (p *Pulls) set(j *job, f func(*Status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&j.status)
}

// drop releases the bytes of an image that is not wanted any more. When the manager ends, they stay.
func (p *Pulls) drop(j *job) {
	if p.ctx.Err() != nil {
		return
	}
	if _, again := p.Status(j.status.Image); again {
		return // the image is wanted again, and the next attempt continues
	}
	if client, ctx := p.c.Client(p.ctx); client != nil {
		p.release(ctx, client, j.status.Image)
	}
}

// release ends the lease of an image's pull; the engine then removes blobs that nothing else keeps.
func (p *Pulls) release(ctx context.Context, client *containerd.Client, image string) {
	err := client.LeasesService().Delete(ctx, leases.Lease{ID: leaseOf(image)})
	if err != nil && !errdefs.IsNotFound(err) {
		p.c.Log.Warn("fetched bytes not dropped", "image", image, "error", err)
	}
}
