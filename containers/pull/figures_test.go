package pull

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

// TestFigures compares the pull of 100 MB, unpacked and on the disk, with a copy of as many bytes.
func TestFigures(t *testing.T) {
	if !testenv.Figures() {
		t.Skip("set RESINOS_BENCH=1: it asserts nothing")
	}
	d := newDevice(t)
	if d == nil {
		return
	}
	all := layers(t, "figures", 4, 25_000_000)
	image := d.registry.Push("figures", "1", runtime.GOARCH, all...)
	begin := time.Now()
	d.pulls.Want([]string{image.Name})
	d.pulled(image.Name)
	pulled := time.Since(begin)
	begin = time.Now()
	for i, l := range all {
		if err := os.WriteFile(filepath.Join(d.Dir, string(rune('a'+i))), l, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	unix.Sync()
	t.Logf("pull of 100 MB: %v; a copy and sync: %v", pulled, time.Since(begin))
}
