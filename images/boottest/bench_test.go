package boottest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// Environment of the measurements.
const (
	benchVariable = "RESINOS_BENCH"  // must be set: measuring takes minutes of an otherwise idle host
	boardVariable = "RESINOS_BOARD"  // measured board; the first one that tells stories by default
	boots         = 5                // of which each figure is the median
	undisturbed   = 25 * time.Second // in which a boot is left alone: sshd and its client's questions cost it seconds
	settle        = 30 * time.Second // from the first output of a container to "idle"
	benchFile     = "bench-%s.json"  // in the directory of the images
)

// measured is what one boot shows.
type measured struct {
	PID1      float64 `json:"pid1_seconds"`
	Lease     float64 `json:"lease_seconds"`
	Output    float64 `json:"container_output_seconds"`
	MemoryUse float64 `json:"memory_in_use_mib"`
	Private   float64 `json:"pid1_private_mib"`
}

// figures names each measurement for the table, in order.
var figures = []struct {
	name string
	of   func(measured) float64
}{
	{"kernel start to PID 1, s", func(m measured) float64 { return m.PID1 }},
	{"kernel start to network lease, s", func(m measured) float64 { return m.Lease }},
	{"kernel start to first container output, s", func(m measured) float64 { return m.Output }},
	{"memory in use when idle, MiB", func(m measured) float64 { return m.MemoryUse }},
	{"private memory of PID 1, MiB", func(m measured) float64 { return m.Private }},
}

// TestBench boots a development image several times and prints medians; make bench runs it.
func TestBench(t *testing.T) {
	if os.Getenv(benchVariable) == "" {
		t.Skip("set " + benchVariable + "=1 on an idle host")
	}
	board := storyBoards[0]
	if name := os.Getenv(boardVariable); name != "" {
		board = name
	}
	lab := openLab(t)
	device, err := lab.Device(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(device.Kill)
	var all []measured
	for range boots {
		m, err := measure(t, device, board)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", m)
		all = append(all, m)
	}
	report(t, board, all)
}

// measure boots a fresh disk, so each is a first boot.
func measure(t *testing.T, device *Device, board string) (measured, error) {
	ctx := t.Context()
	dir := images(os.Getenv(imagesVariable))
	o, err := dir.options(board, "development")
	if err != nil {
		return measured{}, err
	}
	o.Snapshot = true
	if err := device.Start(ctx, o); err != nil {
		return measured{}, err
	}
	defer device.Kill()
	milestones, err := awaitOutput(t, device, undisturbed)
	if err != nil {
		return measured{}, err
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
	}
	memory, err := device.Output(ctx, "cat /proc/meminfo")
	if err != nil {
		return measured{}, err
	}
	private, err := device.Output(ctx, "cat /proc/1/smaps_rollup")
	return measured{
		PID1: milestones["pid1"], Lease: milestones["lease"], Output: milestones["container_output"],
		MemoryUse: mebibytes(memory, "MemTotal") - mebibytes(memory, "MemAvailable"),
		Private:   mebibytes(private, "Private_Clean") + mebibytes(private, "Private_Dirty"),
	}, err
}

// awaitOutput reads the milestones until the container's first output is among them. For a while at first it leaves the
// device alone: each question is a process more on it, and the first one starts sshd.
func awaitOutput(t *testing.T, device *Device, alone time.Duration) (map[string]float64, error) {
	time.Sleep(alone) // sleep: a boot that is measured is not asked
	for end := time.Now().Add(patient(BootTimeout)); ; {
		text, err := device.Output(t.Context(), "osctl boot --json")
		var got struct{ Milestones map[string]float64 }
		if err == nil {
			err = json.Unmarshal([]byte(text), &got)
		}
		if err == nil && got.Milestones["container_output"] > 0 && got.Milestones["lease"] > 0 {
			return got.Milestones, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("wait for a container's output: %v: %v\n%s", got.Milestones, err,
				device.Guest().LastLines())
		}
		time.Sleep(time.Second) // sleep: each question costs the device time
	}
}

// mebibytes finds a line "KEY:   123 kB" of the kernel.
func mebibytes(text, key string) float64 {
	for line := range strings.Lines(text) {
		if rest, found := strings.CutPrefix(line, key+":"); found {
			n, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return n / 1024
		}
	}
	return 0
}

// report prints the table and leaves the figures as JSON beside the images.
func report(t *testing.T, board string, all []measured) {
	t.Helper()
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "%s, %d boots\tmedian\tleast\tmost\n", board, len(all))
	medians := map[string]float64{}
	for _, f := range figures {
		var values []float64
		for _, m := range all {
			values = append(values, f.of(m))
		}
		slices.Sort(values)
		medians[f.name] = values[len(values)/2]
		fmt.Fprintf(out, "%s\t%.2f\t%.2f\t%.2f\n", f.name, values[len(values)/2], values[0], values[len(values)-1])
	}
	if err := out.Flush(); err != nil {
		t.Error(err)
	}
	text, err := json.MarshalIndent(map[string]any{"board": board, "medians": medians, "boots": all}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(os.Getenv(imagesVariable), fmt.Sprintf(benchFile, board))
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		t.Error(err)
	}
}

func TestMebibytes(t *testing.T) {
	text := "MemTotal:         495616 kB\nMemAvailable:  102400 kB\n"
	if got := mebibytes(text, "MemAvailable"); got != 100 {
		t.Errorf("mebibytes = %v, want 100", got)
	}
	if got := mebibytes(text, "Swap"); got != 0 {
		t.Errorf("mebibytes of a missing key = %v", got)
	}
}

func TestPick(t *testing.T) {
	var value any
	text := `{"steps":[{"name":"a","start":0.25},{"name":"b","pid":41234567}]}`
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"steps.name=b.pid": "41234567", "steps.0.start": "0.25"} {
		if got, err := pick(value, path); err != nil || got != want {
			t.Errorf("pick %s = %q, %v, want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"none", "steps.9", "steps.name=c", "steps.0.name.more", "steps.x"} {
		if got, err := pick(value, path); err == nil {
			t.Errorf("pick %s = %q", path, got)
		}
	}
}
