package volume

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"resinos/containers/app"
)

func write(t *testing.T, text string, parts ...string) {
	t.Helper()
	path := filepath.Join(parts...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

// TestCreate: a volume begins with what the image has at its place, a half-made one of a power cut is made again, and
// one that exists is left alone.
func TestCreate(t *testing.T) {
	dir, root := t.TempDir(), t.TempDir()
	write(t, "from image", root, "real", "sub", "file")
	if err := os.Symlink("/real", filepath.Join(root, "data")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "shop", "data")
	write(t, "half", dir, "shop", ".new-data", "sub", "half")
	for range 2 {
		if err := Create(path, root, "/data"); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(filepath.Join(path, "sub", "file")); err != nil || string(text) != "from image" {
			t.Errorf("the volume has %q, %v", text, err)
		}
		if info, err := os.Stat(filepath.Join(path, "sub", "file")); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		write(t, "changed", root, "real", "sub", "file") // is not copied again
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the volume: %v, %v", entries, err)
	}
	if err := Create(filepath.Join(dir, "shop", "empty"), root, "/nowhere"); err != nil {
		t.Error(err)
	}
	write(t, "", dir, "shop", "file")
	err = Create(filepath.Join(dir, "shop", "file"), root, "/data")
	if err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a file in place of a volume: %v", err)
	}
}

// TestCreateAtOnce: of containers that come at the same time for a new volume, one fills it.
func TestCreateAtOnce(t *testing.T) {
	root := t.TempDir()
	for i := range 50 {
		write(t, "text", root, "data", strconv.Itoa(i))
	}
	path := filepath.Join(t.TempDir(), "shop", "data")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := Create(path, root, "/data"); err != nil {
				t.Error(err)
			}
			if entries, err := os.ReadDir(path); err != nil || len(entries) != 50 {
				t.Errorf("the volume has %d files, %v", len(entries), err)
			}
		})
	}
	all.Wait()
}

func TestPath(t *testing.T) {
	v := Volumes{Dir: "/v"}
	c := app.Container{App: "shop", Service: "web"}
	if got := v.Path(c, app.Mount{Source: "data", Target: "/data"}); got != "/v/shop/data" {
		t.Error(got)
	}
	one, other := v.Path(c, app.Mount{Target: "/a"}), v.Path(c, app.Mount{Target: "/b"})
	if one == other || !strings.HasPrefix(one, "/v/shop/web@") {
		t.Error(one, other)
	}
}

func TestBind(t *testing.T) {
	v := Volumes{Apps: t.TempDir()}
	c := app.Container{App: "shop"}
	own := filepath.Join(v.Apps, "shop")
	write(t, "", own, "file")
	write(t, "", v.Apps, "other", "file")
	if err := os.Symlink("../other", filepath.Join(own, "link")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		source, want     string
		readOnly, create bool
	}{
		{own, "", false, false},
		{own + "/file", "", false, false},
		{own + "/new/deep", "", false, true},
		{own + "/missing", "no such file", false, false},
		{own + "/link", "is a link", false, false},
		{own + "/link/file", "is a link", false, false},
		{own + "/../other/file", "nothing that a container may see", false, false},
		{own + "er", "nothing that a container may see", false, false},
		{v.Apps, "nothing that a container may see", false, false},
		{"/", "nothing that a container may see", true, false},
		{"/etc/shadow", "nothing that a container may see", true, false},
		{"/dev/null", "", false, false},
		{"/proc", "read-only", false, false},
		{"/proc", "", true, false},
	} {
		path, err := v.Bind(c, app.Mount{Source: tt.source, Target: "/x", ReadOnly: tt.readOnly, Create: tt.create})
		switch {
		case tt.want == "" && (err != nil || path != filepath.Clean(tt.source)):
			t.Errorf("%s: %q, %v", tt.source, path, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.source, err, tt.want)
		}
	}
}

// TestBindMade: what nothing has made becomes an empty directory, if the app's file asks for it.
func TestBindMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run", "udev")
	before := offered
	offered = []offer{{path: dir, made: true}}
	t.Cleanup(func() { offered = before })
	c, m := app.Container{App: "shop"}, app.Mount{Source: dir, Target: "/x", ReadOnly: true}
	if _, err := (Volumes{}).Bind(c, m); err == nil {
		t.Error("a directory that is missing was bound")
	}
	m.Create = true
	if path, err := (Volumes{}).Bind(c, m); err != nil || path != dir {
		t.Errorf("%s, %v", path, err)
	}
}

func TestFile(t *testing.T) {
	v := Volumes{Dir: t.TempDir()}
	c := app.Container{App: "shop"}
	one, err := v.File(c, app.File{Target: "/x", Content: "text", Mode: 0o400})
	if err != nil {
		t.Fatal(err)
	}
	again, err := v.File(c, app.File{Target: "/x", Content: "text", Mode: 0o400})
	if err != nil || again != one {
		t.Errorf("%s, then %s, %v", one, again, err)
	}
	text, err := os.ReadFile(one)
	info, statErr := os.Stat(one)
	if err != nil || statErr != nil || string(text) != "text" || info.Mode().Perm() != 0o400 {
		t.Errorf("%q, %v, %v, %v", text, info.Mode(), err, statErr)
	}
	other, err := v.File(c, app.File{Target: "/x", Content: "text"})
	if err != nil || other == one {
		t.Errorf("another mode is at %s, %v", other, err)
	}
}
