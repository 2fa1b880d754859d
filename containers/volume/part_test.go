package volume

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/containers/app"
)

// TestPart: a part of a volume is made if it is missing, and a link on the way, which another container may have put
// there since, is refused.
func TestPart(t *testing.T) {
	v := Volumes{Dir: t.TempDir()}
	c := app.Container{App: "shop", Service: "web", Mounts: []app.Mount{{Type: app.Volume, Source: "data",
		Subpath: "a/b", Target: "/x"}}}
	volume := v.Path(c, c.Mounts[0])
	if err := os.MkdirAll(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	part, err := Part(volume, "a/b")
	if info, statErr := os.Stat(part); err != nil || statErr != nil || !info.IsDir() || v.Check(c) != nil {
		t.Errorf("%s: %v, %v", part, err, statErr)
	}
	if err := os.Remove(filepath.Join(volume, "a", "b")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(volume, "a", "b")); err != nil {
		t.Fatal(err)
	}
	if err := v.Check(c); err == nil || !strings.Contains(err.Error(), "is a link") {
		t.Errorf("a link in its place: %v", err)
	}
}

// TestOwner: a volume without a name that comes from another service is that of the other one.
func TestOwner(t *testing.T) {
	v := Volumes{Dir: "/volumes"}
	own := v.Path(app.Container{App: "shop", Service: "data"}, app.Mount{Target: "/x"})
	other := v.Path(app.Container{App: "shop", Service: "web"}, app.Mount{Target: "/x", Owner: "data"})
	if own != other {
		t.Errorf("%s and %s", own, other)
	}
}
