// Package lastboot finds out how the last boot ended: from the marker that each boot leaves on resin-state, and from
// the last messages of a panic, which the firmware keeps. Only the end of a boot waits for the disk. Read Traces first.
package lastboot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"resinos/init/walk"
	"resinos/mounts/atomicfile"
	"resinos/mounts/plainfile"
	"resinos/services/bootreport"
	"resinos/services/boottime"
)

// The ways in which a boot ends.
const (
	EndClean    = "clean"      // all services stopped, all disks written out
	EndPanic    = "panic"      // of the kernel, or of PID 1 itself
	EndWatchdog = "watchdog"   // something hung, and the hardware watchdog reset the board
	EndPower    = "power-loss" // nothing says why it ended: the power went, or a reset that leaves no trace
	EndUnknown  = "unknown"    // there is no record of it
)

// Marker is the small file on the state partition that is written at the beginning and at the orderly end of each boot.
type Marker struct {
	BootID string  `json:"boot_id"`
	How    string  `json:"how"` // running, or an End word
	Why    string  `json:"why,omitempty"`
	Uptime float64 `json:"uptime,omitempty"`
}

// running is the word of a boot that has not ended.
const running = "running"

// Traces is what the last boot left behind.
type Traces struct {
	Marker   *Marker // nil: none, or not readable
	Fault    string  // why it is not readable
	Panic    string  // last words of the kernel, from pstore
	Watchdog bool    // the watchdog says that it reset the board
}

// Classify says how the last boot ended. What the boot said of itself counts first, then what the kernel said, then the
// hardware.
func Classify(t Traces) bootreport.Last {
	if t.Marker == nil {
		last := bootreport.Last{How: EndUnknown, Why: t.Fault}
		switch { // another system may have run before: what is certain is certain without the marker
		case t.Panic != "":
			last.How, last.Why = EndPanic, t.Panic
		case t.Watchdog:
			last.How, last.Why = EndWatchdog, "the hardware watchdog reset the board"
		}
		return last
	}
	last := bootreport.Last{How: t.Marker.How, Why: t.Marker.Why, BootID: t.Marker.BootID, Uptime: t.Marker.Uptime}
	switch {
	case t.Marker.How == EndClean:
		last.Later = later(t)
	case t.Marker.How == EndPanic:
	case t.Panic != "":
		last.How, last.Why = EndPanic, t.Panic
	case t.Watchdog:
		last.How, last.Why = EndWatchdog, "the hardware watchdog reset the board"
	case t.Marker.How == running:
		last.How, last.Why = EndPower, "it did not end in order, and neither kernel nor watchdog says why"
	default:
		last.How, last.Why = EndUnknown, fmt.Sprintf("its record says %.40q", t.Marker.How)
	}
	return last
}

// later says how a boot ended that did not come as far as its marker, after one that ended in order. A watchdog may
// also have ended a firmware that hung between the two.
func later(t Traces) string {
	switch {
	case t.Panic != "":
		return EndPanic + ": " + t.Panic
	case t.Watchdog:
		return EndWatchdog
	}
	return ""
}

// MarkerFile lies beside what persists, not in it: no service sees it.
const MarkerFile = "/mnt/state/last-boot.json"

// maxMarker bounds what is read of a file that a power cut may have damaged.
const maxMarker = 4 << 10

// ParseMarker decodes a marker. A wrong one is an error, never a guess.
func ParseMarker(text []byte) (Marker, error) {
	var m Marker
	if len(text) > maxMarker {
		return m, errors.New("parse marker: too long")
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return Marker{}, fmt.Errorf("parse marker: %w", err)
	}
	if m.How == "" {
		return Marker{}, errors.New("parse marker: it does not say how")
	}
	return m, nil
}

// ReadMarker reads the marker; without one the text says why.
func ReadMarker(path string) (*Marker, string) {
	text, err := plainfile.Read(path, maxMarker)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "no record of an earlier boot"
	}
	if err != nil {
		return nil, err.Error()
	}
	m, err := ParseMarker(text)
	if err != nil {
		return nil, err.Error()
	}
	return &m, ""
}

// write writes the marker. The reason is cut: the last words of a panic may be long.
func (m Marker) write(path string) error {
	m.Why = m.Why[:min(len(m.Why), maxMarker/8)]
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write marker: %w", err)
	}
	return atomicfile.Write(path, append(text, '\n'), 0o600)
}

// Marking is the writing of the marker that this boot runs. It waits for the disk, so it goes on beside the steps of
// the boot; whoever tells of an end waits for it, or the word of the beginning would be the last.
//
//	mark boot: the old marker is read --> the new one is written beside the next steps --> an end is written
//
// Until it is on the disk, a power cut leaves the marker of the boot before, as it does in the initramfs.
type Marking struct {
	over chan struct{} // closed when it is written, or failed
}

// Begin starts the writing. A file that cannot be written leaves the next boot with an older marker, which a person
// should know.
func (m *Marking) Begin(path string, log *slog.Logger) {
	m.over = make(chan struct{})
	go func() { // ends with the write; when that hangs, so does the end of the device's life, which is bounded
		defer close(m.over)
		if err := walk.Shielded(func() error {
			return Marker{BootID: BootID(),
				How: running}.write(path)
		}); err != nil {
			log.Warn("this boot not recorded for the next boot", "error", err)
		}
	}()
}

// End writes how this boot ends, after what is being written of its beginning. A nil m has nothing to wait for.
func (m *Marking) End(path string, how Marker) error {
	if m != nil && m.over != nil {
		<-m.over
	}
	how.Uptime = bootreport.Seconds(boottime.Now())
	return how.write(path)
}

// Under reports whether it is being written.
func (m *Marking) Under() bool {
	if m.over == nil {
		return false
	}
	select {
	case <-m.over:
		return false
	default:
		return true
	}
}

// BootID is the kernel's random name for this boot.
func BootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// PstoreDir is where the kernel shows what survived in persistent store.
const PstoreDir = "/sys/fs/pstore"

// maxWords bounds the last words of a kernel that are kept.
const maxWords = 2 << 10

// TakePanic reads the last words of a kernel that panicked, and removes all that the store holds: it is small, and the
// next panic needs the room.
func TakePanic(dir string) (string, error) {
	names, err := filepath.Glob(dir + "/dmesg-*") // fails only for a malformed pattern
	if err != nil || len(names) == 0 {
		return "", err
	}
	slices.Sort(names)
	var texts []string
	var faults []error
	for _, name := range names {
		text, err := os.ReadFile(name)
		faults = append(faults, err, os.Remove(name))
		texts = append(texts, string(text))
	}
	return panicText(texts), errors.Join(faults...)
}

// panicText finds the kernel's reason in the records of one panic: the line that names it, and a few behind it.
func panicText(records []string) string {
	best := ""
	for _, record := range records {
		head, _, _ := strings.Cut(record, "\n") // "Panic#1 Part1", "Oops#1 Part1"
		at := strings.Index(record, "Kernel panic - not syncing")
		if at < 0 && !strings.HasPrefix(head, "Panic") && !strings.HasPrefix(head, "Oops") {
			continue
		}
		text := record
		if at >= 0 {
			text = record[at:]
		}
		if best == "" || at >= 0 {
			best = text
		}
	}
	if len(best) > maxWords {
		best = best[:maxWords]
	}
	return printable(strings.TrimSpace(withoutLevels(best)))
}

// withoutLevels takes the priority off each line of a kernel's log: "<4>[   12.4] CPU: 0".
func withoutLevels(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		level, rest, found := strings.Cut(strings.TrimPrefix(line, "<"), ">")
		if _, err := strconv.ParseUint(level, 10, 8); found && err == nil && line[0] == '<' {
			lines[i] = rest
		}
	}
	return strings.Join(lines, "\n")
}

// printable keeps what a damaged store may hold away from terminals.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f || r == 0xfffd {
			return '?'
		}
		return r
	}, text)
}
