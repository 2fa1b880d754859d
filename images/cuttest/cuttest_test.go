package cuttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"resinos/bsp/boards"
	"resinos/images/powercut"
	"resinos/images/powercut/judge"
	"resinos/images/powercut/recording"
	"resinos/images/qemu"
	"resinos/mounts/testenv"
)

// Environment of the test.
const (
	imagesVariable = "RESINOS_IMAGES" // directory of ready images BOARD-VARIANT.img
	boardVariable  = "RESINOS_BOARD"  // board to record; without it the first below
	idleVariable   = "RESINOS_IDLE"   // how long nothing may be written, such as 10m
	board          = "qemu-arm64"     // it boots faster than the one with UEFI
	top            = "../.."          // of the source tree, as seen from this package
)

// How long a device must write nothing before it counts as at rest, and has to stay so then.
const (
	restTime = 40 * time.Second // longer than the kernel keeps dirty pages (30 s) and the journal's commit (5 s)
	idleTime = 60 * time.Second
)

// open says what this host lacks, or finds what the recording needs.
func options(ctx context.Context) (qemu.Options, error) {
	var lacks []error
	for program, pkg := range map[string]string{
		"qemu-system-aarch64": "qemu-system-arm", "qemu-system-x86_64": "qemu-system-x86", "e2fsck": "e2fsprogs",
		"debugfs": "e2fsprogs", "fsck.vfat": "dosfstools",
	} {
		if _, err := exec.LookPath(program); err != nil {
			lacks = append(lacks, fmt.Errorf("%s: apt-get install %s", program, pkg))
		}
	}
	name := board
	if other := os.Getenv(boardVariable); other != "" {
		name = other
	}
	dir := os.Getenv(imagesVariable)
	if dir == "" {
		lacks = append(lacks, fmt.Errorf("%s is not set: name the directory of %s-development.img; make powercut does",
			imagesVariable, name))
	}
	if err := errors.Join(lacks...); err != nil {
		return qemu.Options{}, err
	}
	b, err := boards.Load(name)
	if err != nil {
		return qemu.Options{}, err
	}
	files, err := qemu.Firmware(ctx, b, filepath.Join(top, ".cache"), nil)
	return qemu.Options{Board: b, Firmware: files, Image: filepath.Join(dir, name+"-development.img")}, err
}

// TestPowerCut records one device through its first boot, an hour of rest made short, and all workloads, and judges
// what a cut at any moment would have left.
func TestPowerCut(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: no boots")
	}
	o, err := options(t.Context())
	if err != nil {
		testenv.Lacking(t, "%v", err)
	}
	s, err := recording.Start(t.Context(), o, t.TempDir(), 1<<30, func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Abort)
	var careless []string
	for i, w := range recording.Workloads() {
		done, err := s.Do(t.Context(), w)
		switch {
		case err != nil:
			t.Fatal(err)
		case !done:
			continue
		case w.Careless:
			careless = append(careless, w.Name)
		}
		if i == 0 {
			t.Run("idle", func(t *testing.T) { idle(t, s) })
		}
	}
	r, err := s.Stop(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("good", func(t *testing.T) {
		report := check(t, r, r.Good())
		if report.BadCount > 0 {
			t.Errorf("%d of %d states are bad", report.BadCount, report.States)
		}
		if report.States < 1000 || report.Distinct < 500 {
			t.Errorf("%d states, %d distinct: that is no first boot", report.States, report.Distinct)
		}
	})
	t.Run("careless", func(t *testing.T) {
		if report := check(t, r, careless); report.BadCount == 0 {
			t.Errorf("none of %d states is bad, though the file was written in place: the judges see nothing",
				report.States)
		}
	})
}

func check(t *testing.T, r *recording.Recording, sections []string) *powercut.Report {
	t.Helper()
	suite, err := judge.DeviceSuite(r)
	if err != nil {
		t.Fatal(err)
	}
	scratch := t.TempDir()
	if stat, err := os.Stat("/dev/shm"); err == nil && stat.IsDir() {
		scratch = "/dev/shm"
	}
	report, err := powercut.Check(t.Context(), r, powercut.Options{Suite: suite, Effort: powercut.Quick(1),
		Sections: sections, Scratch: scratch})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", report)
	return report
}

// idle fails if anything is written to the disk of a device at rest: by the log of its writes, and by its own count. It
// also logs the process that uses the processor most meanwhile; make idle, which has the host for itself, fails if that
// is a quarter of it: such a process looks or asks without end.
func idle(t *testing.T, s *recording.Session) {
	window := idleTime
	if text := os.Getenv(idleVariable); text != "" {
		var err error
		if window, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", idleVariable, err)
		}
	}
	if err := s.Settle(t.Context(), restTime); err != nil {
		t.Fatal(err)
	}
	last := position(t, s)
	before, used := written(t, s), ticks(t, s)
	time.Sleep(window) // sleep: the rest that is looked at
	if after, now := written(t, s), position(t, s); after != before || now != last {
		t.Errorf("in %v at rest %d bytes were written, %d entries in the log", window, 512*(after-before), now-last)
	} else {
		t.Logf("0 bytes in %v at rest", window)
	}
	busiest, most := "nobody", int64(0)
	for process, now := range ticks(t, s) {
		if spent := now - used[process]; spent > most {
			busiest, most = process, spent
		}
	}
	testenv.AtMost(t, fmt.Sprintf("processor time of %s in %v at rest", busiest, window),
		time.Duration(most)*time.Second/ticksPerSecond, window/4)
}

// ticksPerSecond is USER_HZ, the unit of processor time in /proc.
const ticksPerSecond = 100

// ticks is how much processor time each process of the device has used: fields 14 and 15 of /proc/PID/stat, proc(5).
func ticks(t *testing.T, s *recording.Session) map[string]int64 {
	t.Helper()
	text, err := s.Run(t.Context(), "cat /proc/[0-9]*/stat 2>/dev/null; true")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]int64{}
	for line := range strings.Lines(text) {
		end := strings.LastIndexByte(line, ')') // the name before it may hold spaces
		f := strings.Fields(line[end+1:])
		if end < 0 || len(f) < 13 {
			continue // a process that ended meanwhile
		}
		user, err1 := strconv.ParseInt(f[11], 10, 64)
		system, err2 := strconv.ParseInt(f[12], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		used[line[:end+1]] = user + system
	}
	if len(used) < 5 {
		t.Fatalf("these are not the processes of a device: %q", text)
	}
	return used
}

func position(t *testing.T, s *recording.Session) int {
	t.Helper()
	n, err := s.Position()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// written is how many sectors all disks of the device have written since its boot: the 7th number of the kernel's count
// (Documentation/block/stat.rst).
func written(t *testing.T, s *recording.Session) (sectors int64) {
	t.Helper()
	text, err := s.Run(t.Context(), "cat /sys/block/vd*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		n, err := strconv.ParseInt(strings.Fields(line)[6], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sectors += n
	}
	return sectors
}
