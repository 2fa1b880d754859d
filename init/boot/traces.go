package boot

import (
	"context"
	"log/slog"
	"os"
	"strings"

	"resinos/init/lastboot"
	"resinos/mounts/attach"
)

// markBoot reads what the boot before this one said of its end, and marks this one as running. It comes as soon as the
// partition is there: the disk has then the time of all further steps to write it.
func (s *System) markBoot() error {
	s.traces.Marker, s.traces.Fault = lastboot.ReadMarker(lastboot.MarkerFile)
	s.Marking.Begin(lastboot.MarkerFile, s.env.Log)
	return nil
}

// lastBootDeeds bring out what the boot before this one left of its end, and say how it ended.
func lastBootDeeds(Inputs) []deed {
	return []deed{
		{[]string{"load " + pstoreModule + " if there is " + firmwareDir}, (*System).loadPstore},
		{[]string{pstore.String() + " if this kernel has it", "read and remove what is there"}, (*System).takePstore},
		{[]string{"tell how the boot before this one ended"}, (*System).tellLastBoot},
	}
}

// tellLastBoot says how the boot before this one ended.
func (s *System) tellLastBoot() error {
	last := lastboot.Classify(s.traces)
	s.env.Record.Remember(last)
	reason, _, _ := strings.Cut(last.Why, "\n") // the rest of a panic is for osctl boot --last
	s.env.Log.Log(context.Background(), levels[last.How], "last boot ended", "status", last.How, "reason", reason)
	return nil
}

// levels of the ways in which a boot ends: a person should know of all but one.
var levels = map[string]slog.Level{lastboot.EndPanic: slog.LevelError, lastboot.EndWatchdog: slog.LevelError,
	lastboot.EndPower: slog.LevelWarn}

// The persistent store, where the last words of a panic are, and what makes it of the variables of EFI.
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

// takePstore attaches the persistent store, where the board has one, and takes the last panic out of it.
func (s *System) takePstore() (err error) {
	if _, err := os.Stat(lastboot.PstoreDir); err != nil {
		return nil // this kernel has none
	}
	if err := attach.Ensure(pstore); err != nil {
		return err
	}
	s.traces.Panic, err = lastboot.TakePanic(lastboot.PstoreDir)
	return err
}
