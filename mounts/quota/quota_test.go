package quota

import (
	"testing"

	"resinos/mounts/disk"
)

func TestPlan(t *testing.T) {
	for name, tt := range map[string]struct{ whole, want Amount }{
		"nothing":       {Amount{}, Amount{}},
		"tiny":          {Amount{16 * disk.MiB, 100}, Amount{8 * disk.MiB, 50}},
		"an image's":    {Amount{232 * disk.MiB, 32768}, Amount{216 * disk.MiB, 31744}},
		"grown a bit":   {Amount{512 * disk.MiB, 65536}, Amount{480 * disk.MiB, 63488}},
		"a card's":      {Amount{30 * disk.GiB, 3932160}, Amount{30*disk.GiB - 256*disk.MiB, 3915776}},
		"a large disk":  {Amount{2 * disk.TiB, 1 << 28}, Amount{2*disk.TiB - 256*disk.MiB, 1<<28 - 16384}},
		"odd":           {Amount{100*disk.MiB + 999, 4096}, Amount{84 * disk.MiB, 3072}},
		"few and large": {Amount{disk.GiB, 10}, Amount{960 * disk.MiB, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Plan(tt.whole)
			if got != tt.want {
				t.Errorf("Plan(%v) = %v, want %v", tt.whole, got, tt.want)
			}
			if got.Space > tt.whole.Space || got.Files > tt.whole.Files || got.Space < 0 || got.Files < 0 {
				t.Errorf("Plan(%v) = %v: more than there is", tt.whole, got)
			}
		})
	}
}

// TestPlanGrows: growth never takes anything away from containers, nor from the system.
func TestPlanGrows(t *testing.T) {
	var before, limit Amount
	for size := disk.Bytes(0); size < 40*disk.GiB; size = size*5/4 + disk.MiB {
		whole := Amount{Space: size, Files: int64(size / 8192)}
		next := Plan(whole)
		if next.Space < limit.Space || next.Files < limit.Files {
			t.Errorf("Plan(%v) = %v, less than %v before", whole, next, limit)
		}
		if whole.Space-next.Space < before.Space-limit.Space-1024 || whole.Files-next.Files < before.Files-limit.Files {
			t.Errorf("Plan(%v) = %v leaves the system less than before", whole, next)
		}
		before, limit = whole, next
	}
}

func TestOn(t *testing.T) {
	for options, want := range map[string]bool{
		"rw,prjquota,resuid=4294967294": true, "rw": false, "": false, "rw,noprjquota": false,
		"rw,errors=remount-ro": false,
	} {
		if got := On(options); got != want {
			t.Errorf("On(%q) = %v, want %v", options, got, want)
		}
	}
}
