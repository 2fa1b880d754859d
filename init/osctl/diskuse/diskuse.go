// Package diskuse counts what uses the data partition: each container, each app, and the rest.
//
// It only reads, and asks neither the engine nor the manager: a full partition may have stopped both. Read User first,
// then Count.
package diskuse

import (
	"cmp"
	"context"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"resinos/mounts/attach"
)

// User is somebody who uses a part of data. A file with several names counts once.
type User struct {
	Who   string `json:"who"`   // container hello.web, app hello, container images, engine, or a directory
	What  string `json:"what"`  // of it
	Used  int64  `json:"used"`  // bytes
	Files int64  `json:"files"` // directories and links count too
}

// Where containers have their root while they run, and what they write lies in.
const (
	taskDir      = "/run/containerd/io.containerd.runtime.v2.task/"
	snapshots    = "containerd/io.containerd.snapshotter.v1."
	contentStore = "containerd/io.containerd.content.v1.content/"
)

// layersOf tells for each directory of data that a running container writes to, relative to data, which container that
// is.
func layersOf(mounts []attach.Mount, data string) map[string]string {
	layers := map[string]string{}
	for _, m := range mounts {
		id, running := strings.CutPrefix(m.Target, taskDir) // NAMESPACE/ID/rootfs
		parts := strings.Split(id, "/")
		if !running || m.Type != "overlay" || len(parts) != 3 || parts[2] != "rootfs" {
			continue
		}
		for option := range strings.SplitSeq(m.Super, ",") {
			if upper, found := strings.CutPrefix(option, "upperdir="+data+"/"); found {
				layers[path.Dir(upper)] = parts[1]
			}
		}
	}
	return layers
}

// owner says who uses a file, from its path relative to data.
func owner(name string, layers map[string]string) (who, what string) {
	parts := strings.SplitN(name, "/", 5)
	switch {
	case parts[0] == "apps" && len(parts) > 1:
		return "app " + parts[1], "/mnt/data/apps/" + parts[1]
	case parts[0] == "volumes" && len(parts) > 2:
		return "app " + parts[1], "volume " + parts[2]
	case strings.HasPrefix(name, snapshots) && len(parts) > 3:
		if id := layers[path.Join(parts[:4]...)]; id != "" {
			return "container " + id, "what it has written"
		}
		return "container images", "unpacked; also what stopped containers have written"
	case strings.HasPrefix(name, contentStore):
		return "container images", "as they came"
	case parts[0] == "containerd":
		return "engine", "/mnt/data/containerd"
	case len(parts) > 2:
		return "/mnt/data/" + parts[0] + "/" + parts[1], ""
	}
	return "/mnt/data/" + parts[0], ""
}

// Count lists who uses the file system that is attached at data, below root, the largest first. whole is false if ctx
// ended before all of it was counted.
func Count(ctx context.Context, root, data string, mounts []attach.Mount) (list []User, whole bool) {
	c := counter{root: filepath.Join(root, data), layers: layersOf(mounts, data), sums: map[[2]string]*User{},
		seen: map[uint64]bool{}}
	var st syscall.Stat_t
	if syscall.Lstat(c.root, &st) != nil {
		return nil, true
	}
	c.device = st.Dev
	c.count(ctx, "")
	for _, f := range c.sums {
		list = append(list, *f)
	}
	slices.SortFunc(list, func(a, b User) int {
		return cmp.Or(cmp.Compare(b.Used, a.Used), cmp.Compare(b.Files, a.Files), cmp.Compare(a.Who, b.Who),
			cmp.Compare(a.What, b.What))
	})
	return list, ctx.Err() == nil
}

type counter struct {
	root   string
	device uint64
	layers map[string]string
	sums   map[[2]string]*User
	seen   map[uint64]bool // inodes of several names
}

// count adds what is in a directory. What comes or goes meanwhile, or cannot be read, is left out: a count of a device
// at work is no more than that. It does not leave the file system.
func (c *counter) count(ctx context.Context, dir string) {
	entries, _ := os.ReadDir(filepath.Join(c.root, dir))
	for _, e := range entries {
		if ctx.Err() != nil {
			return
		}
		name := path.Join(dir, e.Name())
		var st syscall.Stat_t
		if syscall.Lstat(filepath.Join(c.root, name), &st) != nil || st.Dev != c.device {
			continue
		}
		if st.Nlink > 1 && !e.IsDir() {
			if c.seen[st.Ino] {
				continue
			}
			c.seen[st.Ino] = true
		}
		who, what := owner(name, c.layers)
		f := c.sums[[2]string{who, what}]
		if f == nil {
			f = &User{Who: who, What: what}
			c.sums[[2]string{who, what}] = f
		}
		f.Used += st.Blocks * 512 // the unit of stat(2), whatever the file system's is
		f.Files++
		if e.IsDir() {
			c.count(ctx, name)
		}
	}
}
