// Package bootreport owns the time line of a boot: its milestones, its steps, how the previous boot ended, and the plan
// of its steps. PID 1 collects it in a Record; clients (services/pid1) get a Report. It never decides what a boot does.
// Read Report first.
package bootreport

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// InitramfsPath is where stage 1 writes its Report for PID 1; /run is moved to the new root.
const InitramfsPath = "/run/resinos/boot/initramfs.json"

// Report is the time line of a boot. Times are seconds since the kernel started (CLOCK_BOOTTIME).
type Report struct {
	Milestones map[string]float64 `json:"milestones"`
	Steps      []Step             `json:"steps"`
	Slot       string             `json:"slot,omitempty"` // A or B, from the boot script
	Disk       string             `json:"disk,omitempty"` // the disk with all partitions
	Last       *Last              `json:"last,omitempty"` // how the previous boot ended
	Reexecs    int                `json:"reexecs,omitempty"`
	Lives      []Life             `json:"lives,omitempty"` // the latest re-execs
}

// Life is one re-exec of PID 1.
type Life struct {
	At     float64 `json:"at"` // seconds since kernel start
	Took   float64 `json:"took"`
	CPU    float64 `json:"cpu"` // seconds of processor time, which is the better figure on a busy device
	Reason string  `json:"reason"`
	Panic  bool    `json:"panic,omitempty"`
}

// Last is how the previous boot ended.
type Last struct {
	How    string  `json:"how"`
	Why    string  `json:"why,omitempty"` // the power action, or the last message
	BootID string  `json:"boot_id,omitempty"`
	Uptime float64 `json:"uptime,omitempty"` // seconds since kernel start at its end; 0 if nobody could record it
	Later  string  `json:"later,omitempty"`  // how a boot after it ended that left no record of itself
}

// The two stages of a boot.
const (
	StageInitramfs = "initramfs"
	StageRoot      = "root"
)

// StepRecovery is a step of stage 1 that only a device has whose slots both have no root. Its error says why.
const StepRecovery = "recovery"

// The results of a step.
const (
	ResultOK       = "ok"
	ResultDegraded = "degraded" // the device runs, but a person should know what is missing
	ResultIgnored  = "ignored"  // it failed, and nothing depends on it
	ResultFatal    = "fatal"    // the boot ended with this step
)

// Step is one finished step of the boot.
type Step struct {
	Stage    string  `json:"stage"`
	Name     string  `json:"name"`
	Start    float64 `json:"start"`
	Duration float64 `json:"duration"`
	Result   string  `json:"result"`
	Error    string  `json:"error,omitempty"`
}

// The milestones that a boot passes.
const (
	MilestonePID1            = "pid1"             // first line of /init in the initramfs
	MilestoneRoot            = "root"             // PID 1 runs from the root
	MilestoneServices        = "services"         // the first service is started
	MilestoneEngine          = "engine"           // containerd is ready
	MilestoneLease           = "lease"            // the first DHCP lease
	MilestoneContainerOutput = "container_output" // first byte of output of any container
)

// maxMilestones limits what clients of the control socket can make PID 1 store.
const maxMilestones = 64

// Record collects a Report during the boot. Several goroutines may use it.
type Record struct {
	mu     sync.Mutex // guards report
	report Report
}

// New returns a record that begins with the report of an earlier stage.
func New(before Report) *Record {
	if before.Milestones == nil {
		before.Milestones = map[string]float64{}
	}
	return &Record{report: before}
}

// Mark records a milestone. Only the first time counts; first is false on every later call.
func (r *Record) Mark(name string, at time.Duration) (first bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, passed := r.report.Milestones[name]; passed {
		return false, nil
	}
	if len(r.report.Milestones) >= maxMilestones || len(name) > 64 || name == "" {
		return false, fmt.Errorf("mark milestone %.64q: the name is bad, or %d are kept already", name, maxMilestones)
	}
	r.report.Milestones[name] = Seconds(at)
	return true, nil
}

// Add appends a finished step.
func (r *Record) Add(s Step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Steps = append(r.report.Steps, s)
}

// Locate records the slot and the disk that the device runs from.
func (r *Record) Locate(slot, disk string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Slot, r.report.Disk = slot, disk
}

// Remember records how the previous boot ended.
func (r *Record) Remember(last Last) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Last = &last
}

// Resumed records how long the latest re-exec took, and returns it with the number of all re-execs.
func (r *Record) Resumed(took, cpu time.Duration) (latest Life, count int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Lives = slices.Clone(r.report.Lives)
	if n := len(r.report.Lives); n > 0 {
		r.report.Lives[n-1].Took, r.report.Lives[n-1].CPU = Seconds(took), Seconds(cpu)
		latest = r.report.Lives[n-1]
	}
	return latest, r.report.Reexecs
}

// Report returns a copy of what is known so far.
func (r *Record) Report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := r.report
	report.Milestones = maps.Clone(report.Milestones)
	report.Steps = slices.Clone(report.Steps)
	report.Lives = slices.Clone(report.Lives)
	return report
}

// Save writes the report for the next stage.
func (r *Record) Save(path string) error {
	text, err := json.Marshal(r.Report())
	if err != nil {
		return fmt.Errorf("save boot report: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("save boot report: %w", err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("save boot report: %w", err)
	}
	return nil
}

// Load reads what Save wrote. A missing file is an empty report: not every boot has an initramfs.
func Load(path string) (Report, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Report{}, nil
	}
	if err != nil {
		return Report{}, fmt.Errorf("load boot report: %w", err)
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return Report{}, fmt.Errorf("load boot report %s: %w", path, err)
	}
	return r, nil
}

// Seconds rounds d to microseconds: more digits only make the report harder to read.
func Seconds(d time.Duration) float64 { return float64(d.Round(time.Microsecond).Microseconds()) / 1e6 }
