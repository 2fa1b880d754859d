package pull

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/platforms"

	"resinos/containers/daemon"
	"resinos/containers/fetcher"
	"resinos/containers/pull/pulltest"
	"resinos/mounts/testenv"
)

// The test binary is the engine or a fetcher when it is called by that name.
func TestMain(m *testing.M) {
	var err error
	switch filepath.Base(os.Args[0]) {
	case "containerd":
		err = daemon.Run(context.Background(), daemon.Config{Root: os.Args[1] + "/data", State: os.Args[1] + "/run",
			Socket: os.Args[1] + "/run/c.sock", RuntimeRoot: os.Args[1] + "/runtime", CgroupRoot: "/none",
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	case "fetcher":
		conn, e := fetcher.FromFile(os.NewFile(3, "test"))
		if err = e; err == nil {
			err = fetcher.Run(context.Background(), fetcher.Config{Image: os.Args[1], Settings: os.Args[2:], Conn: conn,
				Confine: func() error { return nil }}) // package fetcher tests it confined
		}
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// device is an engine of its own, with pulls.
type device struct {
	t        *testing.T
	dir      string
	registry *pulltest.Registry
	engine   *exec.Cmd
	client   *containerd.Client
	log      lockedWriter
	config   Config
	pulls    *Pulls

	mu sync.Mutex // guards right
	// right is what the device thinks of its clock, free what of its disk
	right bool
	free  int64
}

// newDevice returns nil in the run of the test outside the namespace.
func newDevice(t *testing.T) *device {
	t.Helper()
	if !testenv.InNamespace(t) {
		return nil
	}
	dir, err := os.MkdirTemp("", "pull") // the path of a test is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t: t, dir: dir, registry: pulltest.New(t), right: true, free: 1 << 40}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // what is mounted there goes with the namespace
	d.registry.Settings(dir)
	d.start()
	d.config = Config{
		Client: func(ctx context.Context) (*containerd.Client, context.Context) {
			return d.client, namespaces.WithNamespace(ctx, "resinos")
		},
		Snapshotter: "native", Platform: platforms.Default(), Images: DefaultImages, Blobs: DefaultBlobs,
		Fetcher: func(image string) *exec.Cmd {
			return &exec.Cmd{Path: "/proc/self/exe", Args: []string{"fetcher", image, dir}, Dir: "/", Stderr: os.Stderr}
		},
		Delay:        func(Cause, int) time.Duration { return 10 * time.Millisecond },
		Free:         func() (int64, error) { d.mu.Lock(); defer d.mu.Unlock(); return d.free, nil },
		ClockIsRight: func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.right },
		Log:          slog.New(slog.NewTextHandler(&d.log, nil)),
	}
	d.pulls = New(context.Background(), d.config)
	t.Cleanup(func() {
		d.pulls.Close()
		d.kill()
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

// start starts the engine and waits until it answers.
func (d *device) start() {
	d.t.Helper()
	d.engine = &exec.Cmd{Path: "/proc/self/exe", Args: []string{"containerd", d.dir}, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}}
	if err := d.engine.Start(); err != nil {
		d.t.Fatal(err)
	}
	if d.client != nil {
		return // it connects again by itself
	}
	testenv.WaitFor(d.t, "the socket of the engine", func() bool {
		client, err := containerd.New(d.dir + "/run/c.sock")
		d.client = client
		return err == nil
	})
	d.t.Cleanup(func() { _ = d.client.Close() })
}

func (d *device) kill() {
	d.t.Helper()
	_ = d.engine.Process.Kill()
	_ = d.engine.Wait() // it was killed
}

func (d *device) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// ctx has the namespace of our images.
func (d *device) ctx() context.Context {
	return namespaces.WithNamespace(context.Background(), "resinos")
}

// there reports whether an image can be used.
func (d *device) there(image string) bool {
	i, err := d.client.GetImage(d.ctx(), image)
	if err != nil {
		return false
	}
	ok, err := i.IsUnpacked(d.ctx(), "native")
	return err == nil && ok
}

// pulled waits until the images are there.
func (d *device) pulled(images ...string) {
	d.t.Helper()
	for _, image := range images {
		testenv.WaitFor(d.t, "the image "+image, func() bool {
			_, wanted := d.pulls.Status(image)
			return !wanted && d.there(image)
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
