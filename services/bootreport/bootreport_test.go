package bootreport

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRoundTripAndBounds: what was saved is loaded, and milestones are bounded.
func TestRoundTripAndBounds(t *testing.T) {
	r := New(Report{})
	for i := range maxMilestones + 5 {
		r.Mark(strings.Repeat("m", i+1), time.Second)
	}
	if n := len(r.Report().Milestones); n != maxMilestones {
		t.Errorf("%d milestones are kept, want %d", n, maxMilestones)
	}
	if first, err := r.Mark("m", 2*time.Second); first || err != nil || r.Report().Milestones["m"] != 1 {
		t.Errorf("a second mark counts: %v, %v", first, err)
	}
	r.Add(Step{Name: "x", Start: 1.5})
	path := filepath.Join(t.TempDir(), "boot/initramfs.json")
	if err := r.Save(path); err != nil {
		t.Fatal(err)
	}
	back, err := Load(path)
	if err != nil || len(back.Steps) != 1 || back.Steps[0].Start != 1.5 {
		t.Errorf("Load = %+v, %v", back, err)
	}
	os.WriteFile(path, []byte("{"), 0o644)
	if _, err := Load(path); err == nil {
		t.Error("a damaged report loads")
	}
	if r, err := Load(path + ".missing"); err != nil || len(r.Steps) != 0 {
		t.Errorf("a missing report gives %+v, %v", r, err)
	}
	text, _ := json.Marshal(Report{Milestones: map[string]float64{"pid1": 1.7}, Steps: []Step{}})
	if string(text) != `{"milestones":{"pid1":1.7},"steps":[]}` {
		t.Errorf("JSON form is %s", text)
	}
}
