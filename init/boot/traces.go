package boot

import (
	"context"
	"log/slog"
	"os"
	"strings"

	"resinos/init/lastboot"
	"resinos/mounts/attach"
)

// markBoot reads how the last boot ended by its own account, and marks this boot as running. It runs as soon as the
// partition is attached, so that the disk can write the mark while the further steps run.
func (s *System) markBoot() error {
	s.traces.Marker, s.traces.Fault = lastboot.ReadMarker(lastboot.MarkerFile)
	s.Marking.Begin(lastboot.MarkerFile, s.env.Log)
	return nil
}

// lastBootDeeds collect the traces of the last boot's end, and log how it ended.
func lastBootDeeds(Inputs) []deed {
	return []deed{
		{[]string{"load " + pstoreModule + " if there is " + firmwareDir}, (*System).loadPstore},
		{[]string{pstore.String() + " if this kernel has it", "read and remove what is there"}, (*System).takePstore},
		{[]string{"report how the last boot ended"}, (*System).reportLastBoot},
	}
}

// reportLastBoot logs how the last boot ended.
func (s *System) reportLastBoot() error {
	last := lastboot.Classify(s.traces)
	s.env.Record.Remember(last)
	reason, _, _ := strings.Cut(last.Why, "\n") // the rest of a panic is for osctl boot --last
	s.env.Log.Log(context.Background(), levels[last.How], "last boot ended", "status", last.How, "reason", reason)
	return nil
}

// levels are the log levels of the ways in which a boot ends: all but an orderly end are warnings or errors.
var levels = map[string]slog.Level{lastboot.EndPanic: slog.LevelError, lastboot.EndWatchdog: slog.LevelError,
	lastboot.EndPower: slog.LevelWarn}

// The persistent store (pstore) with the kernel's messages of a panic, and the module that keeps it in variables of
// EFI.
const (
	firmwareDir  = "/sys/firmware/efi"
	pstoreModule = "efi_pstore"
)

var pstore = attach.Entry{Name: "pstore", Target: lastboot.PstoreDir, Type: "pstore",
	Flags: []string{"nosuid", "nodev", "noexec"}}

func (s *System) loadPstore() error {
	if _, err := os.Stat(firmwareDir); err == nil {
		_ = s.attacher.Load(pstoreModule) // a firmware without variables has none
	}
	return nil
}

// takePstore attaches the persistent store, if the board has one, and moves the last panic out of it.
func (s *System) takePstore() (err error) {
	if _, err := os.Stat(lastboot.PstoreDir); err != nil {
		return nil // this kernel has no pstore
	}
	if err := attach.Ensure(pstore); err != nil {
		return err
	}
	s.traces.Panic, err = lastboot.TakePanic(lastboot.PstoreDir)
	return err
}
