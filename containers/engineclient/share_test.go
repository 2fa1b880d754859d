package engineclient

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// TestJoined: the label says the same again when it is read.
func TestJoined(t *testing.T) {
	j := joined{"shop.db": 12, "shop.web": 7}
	if text := j.String(); text != "shop.db=12 shop.web=7" || !maps.Equal(parseJoined(text), j) {
		t.Errorf("%q", text)
	}
	if got := parseJoined(""); got != nil {
		t.Errorf("%v of nothing", got)
	}
	if got := parseJoined("x y=z"); got["x"] != 0 || got["y"] != 0 {
		t.Errorf("%v of garbage", got)
	}
}

func TestKnowsWeight(t *testing.T) {
	dir := t.TempDir()
	write := func(parts ...string) {
		path := filepath.Join(append([]string{dir}, parts...)...)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !knowsWeight(dir) {
		t.Error("version 1 is left to the runtime")
	}
	write("cgroup.controllers")
	if knowsWeight(dir) {
		t.Error("without a file")
	}
	if write("resinos", "io.bfq.weight"); !knowsWeight(dir) {
		t.Error("with bfq")
	}
}
