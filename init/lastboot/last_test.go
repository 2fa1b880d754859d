package lastboot

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"
)

func TestClassify(t *testing.T) {
	for _, tt := range []struct {
		name   string
		traces Traces
		how    string
		why    string
	}{
		{"first boot", Traces{Fault: "no record of an earlier boot"}, EndUnknown, "no record"},
		{"damaged marker", Traces{Fault: "parse marker: it does not say how"}, EndUnknown, "parse marker"},
		{"damaged marker, but the watchdog says", Traces{Fault: "x", Watchdog: true}, EndWatchdog, "watchdog"},
		{"damaged marker, but the kernel says", Traces{Fault: "x", Watchdog: true, Panic: "Kernel panic"}, EndPanic,
			"Kernel panic"},
		{"clean", Traces{Marker: &Marker{How: EndClean, Why: "reboot"}}, EndClean, "reboot"},
		{"clean, then the firmware hung", Traces{Marker: &Marker{How: EndClean, Why: "poweroff"}, Watchdog: true},
			EndClean, "poweroff"},
		{"pid 1 said so", Traces{Marker: &Marker{How: EndPanic, Why: "pid 1 ended"}, Panic: "Kernel panic"}, EndPanic,
			"pid 1 ended"},
		{"kernel panic", Traces{Marker: &Marker{How: running}, Panic: "Kernel panic - not syncing: x"}, EndPanic,
			"not syncing"},
		{"kernel panic that the watchdog ended", Traces{Marker: &Marker{How: running}, Panic: "Kernel panic",
			Watchdog: true}, EndPanic, "Kernel panic"},
		{"hang", Traces{Marker: &Marker{How: running}, Watchdog: true}, EndWatchdog, "watchdog"},
		{"plug pulled", Traces{Marker: &Marker{How: running}}, EndPower, "did not end in order"},
		{"word from the future", Traces{Marker: &Marker{How: "molten"}}, EndUnknown, "molten"},
	} {
		got := Classify(tt.traces)
		if got.How != tt.how || !strings.Contains(got.Why, tt.why) {
			t.Errorf("%s: Classify = %+v, want %s because of %q", tt.name, got, tt.how, tt.why)
		}
	}
	for want, traces := range map[string]Traces{
		"":                 {Marker: &Marker{How: EndClean}},
		"watchdog":         {Marker: &Marker{How: EndClean}, Watchdog: true},
		"panic: dm-verity": {Marker: &Marker{How: EndClean}, Watchdog: true, Panic: "dm-verity"},
	} {
		if got := Classify(traces); got.Later != want || got.How != EndClean {
			t.Errorf("Classify(%+v) = %+v, want %q later", traces, got, want)
		}
	}
	if got := Classify(Traces{Marker: &Marker{How: EndPanic}, Panic: "x"}); got.Later != "" {
		t.Errorf("one panic is told twice: %+v", got)
	}
	if got := Classify(Traces{Marker: &Marker{How: EndClean, BootID: "b", Uptime: 3}}); got.BootID != "b" ||
		got.Uptime != 3 {
		t.Errorf("Classify forgets %+v", got)
	}
}

func TestMarkerRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "last-boot.json")
	if m, fault := ReadMarker(path); m != nil || fault == "" {
		t.Errorf("a missing marker is %+v, %q", m, fault)
	}
	want := Marker{BootID: "id", How: EndPanic, Why: strings.Repeat("x", 3*maxMarker), Uptime: 1.5}
	if err := want.write(path); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if m, fault := ReadMarker(fifo); m != nil || !strings.Contains(fault, "FIFO") { // to open it would wait for ever
		t.Errorf("readMarker of a FIFO = %+v, %q", m, fault)
	}
	got, fault := ReadMarker(path)
	if fault != "" || got.BootID != "id" || got.How != EndPanic || len(got.Why) != maxMarker/8 {
		t.Errorf("readMarker = %+v, %q", got, fault)
	}
	os.WriteFile(path, []byte(strings.Repeat("\x00", 100)), 0o600)
	if m, fault := ReadMarker(path); m != nil || fault == "" {
		t.Errorf("a marker of zeros is %+v, %q", m, fault)
	}
}

// TestMarkingBesideTheBoot: the word that a boot runs is written beside its steps, and never after the word of its end,
// however slow the disk is.
func TestMarkingBesideTheBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "last-boot.json")
		var m Marking
		if m.Under() {
			t.Error("a marker is being written that nobody began")
		}
		m.Begin(path, slog.New(slog.DiscardHandler))
		synctest.Wait()
		if got, fault := ReadMarker(path); m.Under() || fault != "" || got.How != running || got.BootID != BootID() {
			t.Errorf("the marker of a boot that runs is %+v, %q", got, fault)
		}
		disk := make(chan struct{}) // a write that takes its time
		m.over = disk
		ended := make(chan error, 1)
		go func() { ended <- m.End(path, Marker{How: EndClean, Why: "reboot"}) }()
		synctest.Wait()
		if got, fault := ReadMarker(path); !m.Under() || fault != "" || got.How != running {
			t.Errorf("before the beginning is on the disk its end is: %+v, %q", got, fault)
		}
		close(disk)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if got, fault := ReadMarker(path); fault != "" || got.How != EndClean || got.Why != "reboot" ||
			got.Uptime <= 0 {
			t.Errorf("the marker of a clean end is %+v, %q", got, fault)
		}
	})
	if err := (*Marking)(nil).End(filepath.Join(t.TempDir(), "x"), Marker{How: EndPanic}); err != nil {
		t.Errorf("an end without a beginning: %v", err)
	}
}

// TestMarkingThatFails: a boot goes on without its marker, and says so.
func TestMarkingThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		var m Marking
		m.Begin(filepath.Join(t.TempDir(), "missing", "last-boot.json"), slog.New(slog.NewTextHandler(&log, nil)))
		synctest.Wait()
		if m.Under() || !strings.Contains(log.String(), "this boot not recorded for the next boot") {
			t.Errorf("it says %q", log.String())
		}
	})
}

func FuzzParseMarker(f *testing.F) {
	f.Add([]byte(`{"boot_id":"x","how":"running"}`))
	f.Add([]byte(`{"how":""}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if m, err := ParseMarker(text); err == nil && (m.How == "" || len(text) > maxMarker) {
			t.Errorf("ParseMarker(%q) = %+v", text, m)
		}
	})
}

func TestTakePanic(t *testing.T) {
	dir := t.TempDir()
	if text, err := TakePanic(dir); text != "" || err != nil {
		t.Errorf("an empty store gives %q, %v", text, err)
	}
	for name, text := range map[string]string{
		"dmesg-efi_pstore-1": "Panic#2 Part1\n<0>[ 12.3] Kernel panic - not syncing: Attempted to kill init! " +
			"\x1b[2J\n<4>[ 12.4] CPU: 0\n<b> <> <999> x",
		"dmesg-efi_pstore-2": "Panic#2 Part2\n<6>[ 11.0] older",
		"console-ramoops-0":  "not a dump",
	} {
		os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
	}
	text, err := TakePanic(dir)
	if err != nil ||
		text != "Kernel panic - not syncing: Attempted to kill init! ?[2J\n[ 12.4] CPU: 0\n<b> <> <999> x" {
		t.Errorf("takePanic = %q, %v", text, err)
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 1 {
		t.Errorf("left in the store: %v", left)
	}
	if text := panicText([]string{"Oops#1 Part1\n" + strings.Repeat("y", 3*maxWords)}); len(text) != maxWords {
		t.Errorf("%d bytes of an oops are kept", len(text))
	}
}
