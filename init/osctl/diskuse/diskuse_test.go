package diskuse

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"resinos/mounts/attach"
)

const layer = "containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/"

// TestCount: who uses the file system is told by name, files with two names count once, and no link leads out of it.
func TestCount(t *testing.T) {
	root := t.TempDir()
	data := filepath.Join(root, "mnt/data")
	for name, kib := range map[string]int{
		layer + "1/fs/bin/sh": 200, layer + "2/fs/var/log": 900,
		"containerd/io.containerd.content.v1.content/blobs/sha256/aa": 100,
		"apps/hello/images/hello.tar":                                 300, "set-aside/state-1/file": 60,
		"containerd/meta.db": 20, "stray": 8,
		"volumes/shop/data/file": 500,
	} {
		path := filepath.Join(data, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, kib<<10), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(data, "apps/hello/images/hello.tar"),
		filepath.Join(data, "apps/hello/again.tar")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", filepath.Join(data, "apps/hello/out")); err != nil {
		t.Fatal(err)
	}
	mounts := []attach.Mount{
		{Target: taskDir + "resinos/shop.web/rootfs", Type: "overlay", Super: "rw,lowerdir=/mnt/data/" + layer +
			"1/fs,upperdir=/mnt/data/" + layer + "2/fs,workdir=x"},
		{Target: "/elsewhere", Type: "overlay", Super: "rw,upperdir=/mnt/data/" + layer + "1/fs"},
	}
	list, whole := Count(t.Context(), root, "/mnt/data", mounts)
	if !whole {
		t.Error("not all was counted")
	}
	want := map[string]int64{ // in KiB
		"container shop.web": 900, "app hello": 300, "container images": 300, "engine": 20,
		"/mnt/data/set-aside/state-1": 60, "/mnt/data/stray": 8,
		"app shop": 500,
	}
	got := map[string]int64{}
	for i, u := range list {
		got[u.Who] += u.Used >> 10
		if i > 0 && u.Used > list[i-1].Used {
			t.Errorf("%s comes after %s", u.Who, list[i-1].Who)
		}
	}
	const rounding = 64 // directories take blocks too on some file systems, and some take blocks before they need them
	for who, kib := range want {
		if got[who] < kib || got[who] > kib+kib/2+rounding {
			t.Errorf("%s uses %d KiB, want %d; all: %+v", who, got[who], kib, list)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if list, whole := Count(ended, root, "/mnt/data", nil); whole || len(list) != 0 {
		t.Errorf("without time %v, %v", list, whole)
	}
	if list, whole := Count(t.Context(), root, "/mnt/none", nil); !whole || len(list) != 0 {
		t.Errorf("of what is not there %v, %v", list, whole)
	}
}
