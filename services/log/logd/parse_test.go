package logd

import (
	"os"
	"testing"

	"resinos/mounts/testenv"
	"resinos/services/log/ring"
)

// The kernel of this machine is the best author of samples.
func TestRealKernelLog(t *testing.T) {
	ring, _, err := ring.Open(t.TempDir(), 1<<20, [16]byte{}, now)
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	k, err := openKernelLog("/dev/kmsg", ring)
	if err != nil {
		testenv.Lacking(t, "the kernel's log: %v", err)
	}
	defer k.close()
	for range 10 {
		if err := k.turn(ring, now); err != nil {
			testenv.Lacking(t, "the kernel's log: %v", err)
		}
	}
	if err := ring.Commit(); err != nil {
		t.Fatal(err)
	}
	first, err := openKernelLog("/dev/kmsg", ring)
	if err != nil {
		t.Fatal(err)
	}
	defer first.close()
	if first.next != k.next {
		t.Errorf("a second life goes on at %d, the first one stopped at %d", first.next, k.next)
	}
	t.Logf("%d records", ring.Next())
}

func TestBootID(t *testing.T) {
	id, err := bootID()
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	if err == nil && id == [16]byte{} {
		t.Error("boot id is zero")
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"8M": 8 << 20, "64k": 64 << 10, "1G": 1 << 30, "8388608": 8 << 20,
		"8 MiB": 8 << 20} {
		if got, err := ParseSize(text); got != want || err != nil {
			t.Errorf("ParseSize(%q) = %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "M", "-8M", "8MB", "1", "63K", "9999G", "4294967296G"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d", text, got)
		}
	}
}
