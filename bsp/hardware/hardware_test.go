package hardware

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestApply(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, cpu := range []string{"policy0", "policy4"} {
		write("sys/cpufreq/"+cpu+"/scaling_governor", "ondemand")
	}
	board := Hardware{LED: "act", Power: map[string]Profile{
		"low":  {{"cpufreq/policy*/scaling_governor", "powersave"}},
		"high": {{"nothing/here", "1"}, {"cpufreq/policy0/scaling_governor", "performance"}},
	}}
	if board.Empty() || !(Hardware{}).Empty() || board.Check() != nil {
		t.Errorf("a board with a light is empty, or has the fault %v", board.Check())
	}
	text, err := board.Encode()
	if err != nil {
		t.Fatal(err)
	}
	write("hardware.json", string(text))
	read, err := Read(filepath.Join(dir, "hardware.json"))
	if err != nil || read.LED != "act" || len(read.Power) != 2 {
		t.Fatalf("read back %+v, %v", read, err)
	}
	governors := func() string {
		one, _ := os.ReadFile(filepath.Join(dir, "sys/cpufreq/policy0/scaling_governor"))
		two, _ := os.ReadFile(filepath.Join(dir, "sys/cpufreq/policy4/scaling_governor"))
		return string(one) + " " + string(two)
	}
	low, err := Choose(read.Power, "low", "power mode")
	if err != nil || low.Apply(filepath.Join(dir, "sys")) != nil || governors() != "powersave powersave" {
		t.Errorf("mode low: %v, governors %s", err, governors())
	}
	high, err := Choose(read.Power, "high", "power mode")
	if err != nil {
		t.Fatal(err)
	}
	err = high.Apply(filepath.Join(dir, "sys"))
	if err == nil || !strings.Contains(err.Error(), "this device has no ") || governors() != "performance powersave" {
		t.Errorf("mode high: %v, governors %s: the rest of a mode goes on after a fault", err, governors())
	}
	if _, err := os.Stat(filepath.Join(dir, "sys/nothing")); err == nil {
		t.Error("a file that sysfs does not have was created")
	}
}

func TestRefusals(t *testing.T) {
	none, err := Read(filepath.Join(t.TempDir(), "no such file"))
	if err != nil || !none.Empty() {
		t.Errorf("a board without the file: %+v, %v", none, err)
	}
	_, err = Choose(none.Fan, "quiet", "fan profile")
	if err == nil || !strings.Contains(err.Error(), "this board has no fan profile: its board file names none") {
		t.Errorf("no fan: %v", err)
	}
	some := map[string]Profile{"quiet": {{"x", "1"}}, "cool": {{"x", "2"}}}
	_, err = Choose(some, "loud", "fan profile")
	if err == nil || !strings.Contains(err.Error(), `no fan profile "loud"; it has cool, quiet`) {
		t.Errorf("another name: %v", err)
	}
	file := filepath.Join(t.TempDir(), "h.json")
	if err := os.WriteFile(file, []byte("{half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("half a file: %v", err)
	}
}
