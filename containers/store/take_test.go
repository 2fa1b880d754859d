package store

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"

	"resinos/containers/pull/pulltest"
)

// dockers puts an image into the namespace of Docker's daemon.
func (d *device) dockers(t *testing.T, arch string) {
	t.Helper()
	client, ctx := d.Client(context.Background())
	_, err := client.Import(namespaces.WithNamespace(ctx, Docker), bytes.NewReader(dockerArchive(t, arch)),
		containerd.WithImageRefTranslator(Normal), containerd.WithAllPlatforms(true))
	if err != nil {
		t.Fatal(err)
	}
}

// blobs counts the blobs of the engine, of all namespaces.
func (d *device) blobs(t *testing.T) (n int) {
	t.Helper()
	err := filepath.WalkDir(d.Dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.Contains(path, "/blobs/sha256/") {
			n++
		}
		if os.IsNotExist(err) { // a socket or a mount that goes meanwhile
			return nil
		}
		return err
	})
	if err != nil || n == 0 {
		t.Fatalf("%d blobs, %v", n, err)
	}
	return n
}

// TestTake: an image of Docker's daemon becomes ours without a copy of a blob, stays when Docker removes it, and one
// that is not for this device leaves the image that has its name.
func TestTake(t *testing.T) {
	d := newDevice(t)
	if d == nil {
		return
	}
	name := Normal("saved:1")
	if err := d.store.Take(context.Background(), name); !errdefs.IsNotFound(err) {
		t.Errorf("of an image that is not there: %v", err)
	}
	d.dockers(t, runtime.GOARCH)
	before := d.blobs(t)
	for range 2 { // twice has the same result
		if err := d.store.Take(context.Background(), name); err != nil {
			t.Fatal(err)
		}
	}
	// Fewer is right as well: the engine may collect the archive's index meanwhile, which nothing refers to.
	if after := d.blobs(t); after > before {
		t.Errorf("%d blobs became %d", before, after)
	}
	client, ctx := d.Client(context.Background())
	docker := namespaces.WithNamespace(ctx, Docker)
	if err := client.ImageService().Delete(docker, name, images.SynchronousDelete()); err != nil {
		t.Fatal(err)
	}
	if got := d.names(t); len(got) != 1 || got[0] != name || !d.There(name) {
		t.Errorf("after docker has removed it there are %v, whole %v", got, d.There(name))
	}
	i, err := client.GetImage(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	if there, err := i.IsUnpacked(ctx, pulltest.Snapshotter); err != nil || !there {
		t.Errorf("unpacked %v, %v", there, err)
	}
	d.dockers(t, "s390x")
	if err := d.store.Take(context.Background(), name); err == nil {
		t.Error("an image for another architecture was taken")
	}
	if !d.There(name) {
		t.Error("the image that had the name is gone")
	}
}
