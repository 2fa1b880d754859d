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

// Config is all that differs between the device and a test.
type Config struct {
	// Client returns the connection to the engine of this moment, with the context that names our namespace in it; nil
	// while there is none.
	Client func(context.Context) (*containerd.Client, context.Context)
	// Snapshotter is the one that images are unpacked for.
	Snapshotter string
	// Platform is what the device runs.
	Platform platforms.MatchComparer
	// Fetcher returns a fetcher for an image, not yet started.
	Fetcher func(image string) *exec.Cmd
	// Free returns how many bytes are free where images lie.
	Free func() (int64, error)
	// MakeRoom is told how many bytes more should be free, and may remove what nobody needs; nil: nobody does.
	MakeRoom func(ctx context.Context, bytes int64)
	// Writing is called before something is written, and what it returns after; nil: nobody wants to know.
	Writing func() (end func())
	// ClockIsRight is true when the device has asked the time of others.
	ClockIsRight func() bool
	// Images and Blobs are how many of each are fetched at once.
	Images, Blobs int
	// Delay is how long to wait after a number of failures in a row; nil: as package pull has it.
	Delay func(c Cause, failures int) time.Duration
	Log   *slog.Logger
}

// The bounds of a device: more at once makes each of them later, and takes memory.
const (
	DefaultImages = 2
	DefaultBlobs  = 3
)

// Pulls fetches the wanted images, for ever if it must. Its methods may be called from any goroutine.
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
	asked  map[string]*job          // of people, beside those that are wanted
	trying map[string]chan struct{} // images that an attempt is made for; closed at its end
}

// Status is how the pull of one image is.
type Status struct {
	Image    string
	Layers   []Layer
	Waiting  bool // for others to be fetched first
	Failures int  // in a row
	Cause    Cause
	Err      error // the last fault; nil while the first attempt runs
	Next     time.Time
}

// Sum returns how many bytes of how many have come. Both are 0 while nobody knows how many there are.
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
	status Status // but for Layers
}

// New returns pulls that go on until ctx is done or Close is called.
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

// Changed gets a value when a pull has ended, failed or come on.
func (p *Pulls) Changed() <-chan struct{} { return p.changed }

func (p *Pulls) tell() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// Want has exactly these images fetched. A pull that is not wanted any more is ended, and what it has fetched is
// dropped.
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

// Ask fetches an image for a person, beside those that are wanted. It goes on while bytes come, and ends with the first
// failure after that; what was fetched stays for the next attempt.
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
		err := p.try(ctx, j)
		if err == nil || ctx.Err() != nil {
			return err
		}
		cause := CauseOf(err)
		if !j.tally.moved() || cause != Again && cause != Cause(fetcher.Offline) && cause != Cause(fetcher.NoRange) {
			p.giveUp(ctx, image, cause)
			return said(err)
		}
		p.await(ctx, cause, p.failed(j, err))
	}
}

// hopeless are the causes after which the same image is not pulled again as it is.
var hopeless = map[Cause]bool{Lied: true, Unfit: true, Cause(fetcher.Denied): true, Cause(fetcher.Settings): true,
	Cause(fetcher.Untrusted): true}

// giveUp drops what came of an image that a person has asked for in vain, unless it is wanted too.
func (p *Pulls) giveUp(ctx context.Context, image string, cause Cause) {
	p.mu.Lock()
	wanted := p.jobs[image] != nil
	p.mu.Unlock()
	if client, ctx := p.c.Client(ctx); client != nil && hopeless[cause] && !wanted {
		p.release(ctx, client, image)
	}
}

// Asked lists the images that people have asked for and that are on their way.
func (p *Pulls) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.asked))
}

// Status returns how the pull of an image is, and false if there is none.
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
		p.await(ctx, CauseOf(err), p.failed(j, err))
	}
}

// turn waits until nobody else makes an attempt for the image: two would wait for each other's blobs, and the first to
// end would let go of what the second has fetched.
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
		p.release(ctx, client, j.status.Image) // a full disk harms everybody: what came of this image goes
	}
	return err
}

// failed notes a failure and returns how long to wait.
func (p *Pulls) failed(j *job, err error) time.Duration {
	cause := CauseOf(err)
	moved := j.tally.moved()
	var wait time.Duration
	p.set(j, func(s *Status) {
		if s.Cause != cause || moved && cause == Cause(fetcher.Offline) {
			s.Failures = 0 // a line that is cut now and then brings the image all the same
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

// drop gives up what was fetched of an image that is not wanted any more; it stays when the manager ends.
func (p *Pulls) drop(j *job) {
	if p.ctx.Err() != nil {
		return
	}
	if _, again := p.Status(j.status.Image); again {
		return // it is wanted once more, and the next attempt goes on with it
	}
	if client, ctx := p.c.Client(p.ctx); client != nil {
		p.release(ctx, client, j.status.Image)
	}
}

// release ends the lease of an image's pull; the engine then removes what nothing else holds.
func (p *Pulls) release(ctx context.Context, client *containerd.Client, image string) {
	err := client.LeasesService().Delete(ctx, leases.Lease{ID: leaseOf(image)})
	if err != nil && !errdefs.IsNotFound(err) {
		p.c.Log.Warn("what was fetched is not dropped", "image", image, "error", err)
	}
}
