package pull

import (
	"runtime"
	"testing"
	"time"

	"resinos/containers/pull/pulltest"
	"resinos/mounts/testenv"
)

// TestScale counts what an app costs its registry: the first pull, a changed layer, and a day on which nothing is new
// (pull_policy: daily). docs/scale.md multiplies it. Over TLS, as devices come.
func TestScale(t *testing.T) {
	d := newDevice(t)
	if d == nil {
		return
	}
	unit := 100_000
	if testenv.Figures() {
		unit = 1_000_000
	}
	base, middle := pulltest.Layer(t, "base", 30*unit), pulltest.Layer(t, "runtime", 15*unit)
	image := d.registry.Push("app", "1", runtime.GOARCH, base, middle, pulltest.Layer(t, "app", 5*unit))
	name := d.registry.WithTLS(d.Dir, image.Name, time.Now().Add(time.Hour))
	digest := func() string {
		i, err := d.client.GetImage(d.Ctx(), name)
		if err != nil {
			t.Fatal(err)
		}
		return i.Target().Digest.String()
	}
	step := func(what string, atLeast, atMost int64, requests int) {
		t.Helper()
		if err := d.pulls.Ask(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		sum := d.registry.Traffic()
		t.Logf("%s: %v", what, sum)
		n := 0
		for _, of := range sum.Requests {
			n += of
		}
		if sum.Sent < atLeast || sum.Sent > atMost || n > requests {
			t.Errorf("%s: %v; want %d to %d bytes sent, at most %d requests", what, sum, atLeast, atMost, requests)
		}
	}
	heads := int64(20_000) // TLS, heads, manifests
	all, top := int64(50*unit), int64(5*unit)
	d.registry.Traffic()
	step("first pull", all, all+all/100+heads, 8)
	first := digest()
	step("nothing is new", 1, heads, 1)
	step("nothing is new, the next day", 1, heads, 1)
	d.registry.Push("app", "1", runtime.GOARCH, base, middle, pulltest.Layer(t, "app2", 5*unit))
	d.registry.Traffic() // of the push
	step("a changed layer", top, top+top/100+heads, 6)
	if digest() == first {
		t.Error("the changed image did not come")
	}
}
