package pull

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/platforms"

	"resinos/containers/pull/pulltest"
	"resinos/mounts/testenv"
)

func TestMain(m *testing.M) { pulltest.Main(m) }

// device is an engine of its own, with pulls.
type device struct {
	*pulltest.Device
	t        *testing.T
	registry *pulltest.Registry
	client   *containerd.Client
	log      lockedWriter
	pulls    *Pulls

	mu sync.Mutex // guards what follows
	// right is what the device thinks of its clock, free what of its disk
	right bool
	free  int64
}

// newDevice returns nil in the run of the test outside the namespace.
func newDevice(t *testing.T) *device {
	t.Helper()
	engine := pulltest.NewDevice(t)
	if engine == nil {
		return nil
	}
	d := &device{Device: engine, t: t, registry: engine.Registry, right: true, free: 1 << 40}
	d.client, _ = engine.Client(context.Background())
	d.pulls = New(context.Background(), Config{
		Client: d.Client, Snapshotter: pulltest.Snapshotter, Platform: platforms.Default(), Fetcher: d.Fetcher,
		Images: DefaultImages, Blobs: DefaultBlobs,
		Delay:        func(Cause, int) time.Duration { return 10 * time.Millisecond },
		Free:         func() (int64, error) { d.mu.Lock(); defer d.mu.Unlock(); return d.free, nil },
		ClockIsRight: func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.right },
		Log:          slog.New(slog.NewTextHandler(&d.log, nil)),
	})
	t.Cleanup(func() {
		d.pulls.Close()
		if t.Failed() {
			t.Logf("the pulls said:\n%s", d.log.String())
		}
	})
	return d
}

// lockedWriter is written to by several goroutines.
type lockedWriter struct {
	mu sync.Mutex // guards w
	w  bytes.Buffer
}

// String returns what was written.
func (l *lockedWriter) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.String()
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func (d *device) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// pulled waits until the images are there.
func (d *device) pulled(images ...string) {
	d.t.Helper()
	for _, image := range images {
		testenv.WaitFor(d.t, "the image "+image, func() bool {
			_, wanted := d.pulls.Status(image)
			return !wanted && d.There(image)
		})
	}
}

// failed waits until the pull of an image has failed, and returns why.
func (d *device) failed(image string) Status {
	d.t.Helper()
	var s Status
	testenv.WaitFor(d.t, "a failure of "+image, func() bool {
		s, _ = d.pulls.Status(image)
		return s.Err != nil
	})
	return s
}
