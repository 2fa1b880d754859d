package stage1

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"resinos/mounts/disk"
)

func TestParseModules(t *testing.T) {
	got := ParseModules("virtio_blk\n\n# of the board\next4 # with its journal\n\tsquashfs")
	if want := []string{"virtio_blk", "ext4", "squashfs"}; !slices.Equal(got, want) {
		t.Errorf("ParseModules = %q, want %q", got, want)
	}
}

func TestAwaitEndsAndNamesWhatThereIs(t *testing.T) {
	_, err := await("00000000-no-such-partition", 150*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "00000000-no-such-partition") ||
		!strings.Contains(err.Error(), "there are: ") {
		t.Errorf("await = %v", err)
	}
	if text := names([]disk.Partition{{Device: "vda1", UUID: "x"}}); text != "vda1=x" {
		t.Errorf("names = %q", text)
	}
}

// TestWatchdogOnTrialOnly: the story update_broken_start shows that it resets the board.
func TestWatchdogOnTrialOnly(t *testing.T) {
	var s Stage
	if err := s.startWatchdog("/nowhere"); err != nil {
		t.Errorf("not on trial: %v", err)
	}
	s.cmdline.Trial = true
	if err := s.startWatchdog("/nowhere"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("on trial: %v", err)
	}
}
