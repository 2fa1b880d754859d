package pulltest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"

	"resinos/containers/daemon"
	"resinos/containers/fetcher"
	"resinos/mounts/testenv"
)

// Main makes a test binary the engine or a fetcher when it is called by that name, and runs the tests otherwise.
func Main(m *testing.M) {
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

// Device is an engine of its own, and a registry for it.
type Device struct {
	Dir      string
	Registry *Registry
	t        *testing.T
	engine   *exec.Cmd
	client   *containerd.Client
}

// NewDevice starts an engine in a mount namespace of the test. It returns nil in the run of the test outside.
func NewDevice(t *testing.T) *Device {
	t.Helper()
	if !testenv.InNamespace(t) {
		return nil
	}
	dir, err := os.MkdirTemp("", "pull") // the path of a test is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	d := &Device{t: t, Dir: dir, Registry: New(t)}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // what is mounted there goes with the namespace
	t.Cleanup(func() { d.Kill() })
	d.Registry.Settings(dir)
	d.Start()
	return d
}

// Start starts the engine and waits until it answers.
func (d *Device) Start() {
	d.t.Helper()
	d.engine = &exec.Cmd{Path: "/proc/self/exe", Args: []string{"containerd", d.Dir}, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}}
	if err := d.engine.Start(); err != nil {
		d.t.Fatal(err)
	}
	if d.client == nil { // it connects to the next engine by itself
		client, err := containerd.New(d.Dir+"/run/c.sock", containerd.WithTimeout(testenv.Patience()))
		if err != nil {
			d.t.Fatal(err)
		}
		d.client = client
		d.t.Cleanup(func() { _ = client.Close() })
	}
	// The socket is there before the engine listens.
	testenv.WaitFor(d.t, "the engine answers", func() bool {
		_, err := d.client.Version(d.Ctx())
		return err == nil
	})
}

// Kill ends the engine with kill -9.
func (d *Device) Kill() {
	_ = d.engine.Process.Kill()
	_ = d.engine.Wait() // it was killed
}

// Client is as pull.Config has it.
func (d *Device) Client(ctx context.Context) (*containerd.Client, context.Context) {
	return d.client, namespaces.WithNamespace(ctx, "resinos")
}

// Fetcher is as pull.Config has it.
func (d *Device) Fetcher(image string) *exec.Cmd {
	return &exec.Cmd{Path: "/proc/self/exe", Args: []string{"fetcher", image, d.Dir}, Dir: "/", Stderr: os.Stderr}
}

// Ctx has the namespace of our images.
func (d *Device) Ctx() context.Context {
	_, ctx := d.Client(context.Background())
	return ctx
}

// There reports whether an image can be used.
func (d *Device) There(image string) bool {
	i, err := d.client.GetImage(d.Ctx(), image)
	if err != nil {
		return false
	}
	ok, err := i.IsUnpacked(d.Ctx(), Snapshotter)
	return err == nil && ok
}

// Snapshotter is the one that works everywhere.
const Snapshotter = "native"
