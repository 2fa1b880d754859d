package recording

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLoadRecordingKnowsItsImage(t *testing.T) {
	dir := t.TempDir()
	r := &Recording{Dir: dir, Image: filepath.Join(dir, "image"), Size: 16 * SectorSize}
	if err := os.WriteFile(r.Image, make([]byte, r.Size), 0o600); err != nil {
		t.Fatal(err)
	}
	stat, err := os.Stat(r.Image)
	if err != nil {
		t.Fatal(err)
	}
	r.Built = stat.ModTime()
	r.Sections = []Section{{Name: "a"}, {Name: "b", From: 3, Careless: true}}
	if err := r.Save(); err != nil {
		t.Fatal(err)
	}
	got, err := Load(r.Dir)
	if err != nil || !slices.Equal(got.Good(), []string{"a"}) || got.Size != r.Size {
		t.Errorf("LoadRecording = %+v, %v", got, err)
	}
	if err := os.Chtimes(r.Image, stat.ModTime(), stat.ModTime().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(r.Dir); err == nil || !strings.Contains(err.Error(), "built again since") {
		t.Errorf("LoadRecording with another image = %v", err)
	}
	if err := os.Remove(r.Image); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(r.Dir); err == nil || !strings.Contains(err.Error(), "its image") {
		t.Errorf("LoadRecording without its image = %v", err)
	}
}

// TestJudgedByTheCut has epochs that reach over the borders of sections, where no flush came between.
func TestJudgedByTheCut(t *testing.T) {
	r := &Recording{Sections: []Section{{Name: "a"}, {Name: "careless", From: 10, Careless: true},
		{Name: "b", From: 20}}}
	for _, tt := range []struct {
		names      []string
		first, cut int
		want       bool
	}{
		{nil, 5, 15, true},
		{[]string{"a", "b"}, 5, 8, true},
		{[]string{"a", "b"}, 5, 10, true}, // the power went before the careless write
		{[]string{"a", "b"}, 5, 11, false},
		{[]string{"a", "b"}, 12, 25, false},
		{[]string{"a", "b"}, 5, 25, false},
		{[]string{"a", "b"}, 20, 25, true},
		{[]string{"a", "b"}, 19, 21, false},
		{[]string{"a"}, 20, 25, false},
		{[]string{"careless"}, 5, 10, false},
		{[]string{"careless"}, 5, 11, true},
		{[]string{"careless"}, 12, 20, true},
		{[]string{"careless"}, 12, 25, false},
	} {
		if got := r.Judged(tt.names, tt.first, tt.cut); got != tt.want {
			t.Errorf("judged(%q, %d, %d) = %t, want %t", tt.names, tt.first, tt.cut, got, tt.want)
		}
	}
}

func TestPromises(t *testing.T) {
	r := Recording{
		Sections: []Section{{Name: "a", From: 0}, {Name: "b", From: 5, Free: true}},
		Promises: []Promise{{2, "x", []string{"1", "2"}}, {6, "x", []string{"2"}}, {7, "y", nil}},
	}
	for cut, want := range map[int]string{0: "[]", 2: "[{2 x [1 2]}]", 5: "[{2 x [1 2]}]", 6: "[{6 x [2]}]",
		9: "[{6 x [2]} {7 y []}]"} {
		if got := fmt.Sprint(r.InForce(cut)); got != want {
			t.Errorf("inForce(%d) = %s, want %s", cut, got, want)
		}
	}
	if got := r.section(4).Name + r.section(5).Name; got != "ab" {
		t.Errorf("sections are %s, want ab", got)
	}
}
