package swap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/mounts/disk"
	"resinos/mounts/testenv"
)

func TestMake(t *testing.T) {
	for _, c := range []struct {
		meminfo, algorithms string
		page                int
		want                Plan
		fault               string
	}{
		{"MemTotal: 497001 kB\nMemFree: 1 kB\n", "lzo-rle [lz4] zstd\n", 4096, Plan{248500 / 4 * 4 * disk.KiB, "lz4"},
			""},
		{"MemTotal: 497001 kB\n", "[lzo-rle] lzo\n", 65536, Plan{248500 / 64 * 64 * disk.KiB, ""}, ""},
		{"MemTotal: 16000000 kB\n", "lz4", 4096, Plan{4096000 * disk.KiB, "lz4"}, ""},
		{"MemFree: 5 kB\n", "", 4096, Plan{}, "no line MemTotal"},
		{"MemTotal: lots kB\n", "", 4096, Plan{}, "MemTotal: lots"},
		{"MemTotal: -5 kB\n", "", 4096, Plan{}, "-5"},
		{"", "", 4096, Plan{}, "no line"},
	} {
		got, err := Make(c.meminfo, c.algorithms, c.page)
		if got != c.want || (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("Make(%q, %q) = %v, %v, want %v, %q", c.meminfo, c.algorithms, got, err, c.want, c.fault)
		}
	}
}

// TestHeaderIsThatOfMkswap compares with mkswap(8), but for the UUID that it always makes.
func TestHeaderIsThatOfMkswap(t *testing.T) {
	file := filepath.Join(t.TempDir(), "swap")
	const size = 8 * disk.MiB
	if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "mkswap", file)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	want := whole[:page]
	copy(want[1036:1052], make([]byte, 16))
	if got := Header(size, page); !bytes.Equal(got, want) {
		t.Errorf("Header differs from mkswap's: last page %d, want %d", binary.NativeEndian.Uint32(got[1028:]),
			binary.NativeEndian.Uint32(want[1028:]))
	}
	for _, small := range []disk.Bytes{0, 4095, disk.Bytes(page)} {
		if Header(small, page) != nil {
			t.Errorf("Header(%d) is no nil", small)
		}
	}
}

// board makes the files of the kernel that Use touches.
func board(t *testing.T, swaps string) (kernel, *int) {
	t.Helper()
	root, calls := t.TempDir(), 0
	for name, content := range map[string]string{
		"proc/swaps": swaps, "proc/meminfo": "MemTotal: 100000 kB\n", "dev/zram0": "",
		"sys/block/zram0/comp_algorithm": "[lzo] lz4\n",
		"sys/block/zram0/reset":          "", "sys/block/zram0/disksize": "0\n",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return kernel{root, func(string) error { calls++; return nil }}, &calls
}

func TestUse(t *testing.T) {
	k, calls := board(t, "Filename Type Size Used Priority\n")
	plan, err := k.use()
	if err != nil || plan != (Plan{50000 * disk.KiB, "lz4"}) || *calls != 1 {
		t.Fatalf("use = %v, %v after %d calls", plan, err, *calls)
	}
	for name, want := range map[string]string{"reset": "1", "disksize": "51200000"} {
		if got, err := os.ReadFile(k.attribute(name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v, want %q", name, got, err, want)
		}
	}
	if got, err := os.ReadFile(k.path("dev/zram0")); err != nil ||
		!bytes.Equal(got, Header(plan.Size, os.Getpagesize())) {
		t.Errorf("the device holds %d bytes, %v", len(got), err)
	}
}

func TestUseLeavesWhatIsOn(t *testing.T) {
	k, calls := board(t, "Filename Type Size Used Priority\n/dev/zram0 partition 49996 0 100\n")
	if _, err := k.use(); err != nil || *calls != 0 {
		t.Errorf("use = %v after %d calls, want none", err, *calls)
	}
	if got, err := os.ReadFile(k.attribute("reset")); err != nil || len(got) > 0 {
		t.Errorf("reset holds %q, %v", got, err)
	}
}

func TestUseSaysWhatIsMissing(t *testing.T) {
	for name, want := range map[string]string{
		"proc/swaps": "look for swap", "proc/meminfo": "read size of memory",
		"sys/block/zram0/comp_algorithm": "is module zram loaded?",
		"sys/block/zram0/disksize":       "set disksize of /dev/zram0 to 51200000",
		"dev/zram0":                      "write head of /dev/zram0",
	} {
		k, calls := board(t, "")
		if err := os.Remove(k.path(name)); err != nil {
			t.Fatal(err)
		}
		if _, err := k.use(); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), want) || *calls != 0 {
			t.Errorf("without %s: use = %v after %d calls, want %q", name, err, *calls, want)
		}
		if _, err := os.Stat(k.path(name)); err == nil {
			t.Errorf("%s was created", name)
		}
	}
}
