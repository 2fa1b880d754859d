package partition

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"resinos/mounts/disk"
)

// TestWays: the ways to attach a place that are printed are those that are tried, the stand-in last.
func TestWays(t *testing.T) {
	on := Disk{Name: "vda"}
	for i, label := range []string{disk.Boot, disk.RootA, disk.RootB, disk.State, disk.Data} {
		on.Partitions = append(on.Partitions, disk.Partition{Disk: "vda", Device: fmt.Sprint("vda", i+1), Label: label})
	}
	for _, label := range []string{disk.Boot, disk.State, disk.Data} {
		_, all := ways(on, label)
		var does []string
		for _, w := range all {
			if w.do == nil {
				t.Errorf("%s: nothing does %q", label, w.does)
			}
			does = append(does, w.does)
		}
		if d := AttachPlan(on, label); !slices.Equal(d, does) || !strings.Contains(does[len(does)-1], "tmpfs") {
			t.Errorf("%s: planned %q, tried %q", label, d, does)
		}
	}
}
