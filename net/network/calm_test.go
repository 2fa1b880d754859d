package main

import (
	"fmt"
	"testing"
)

// TestReadOnly: only the program's own pages without the right to write, and no line that is cut.
func TestReadOnly(t *testing.T) {
	const maps = `00400000-00793000 r-xp 00000000 07:00 123                                /usr/sbin/netd
00793000-00b2d000 r--p 00393000 07:00 123                                /usr/sbin/netd
00b2d000-00b49000 rw-p 0072d000 07:00 123                                /usr/sbin/netd
00b49000-02b80000 rw-p 00000000 00:00 0
7f0000000000-7f0000001000 r--p 00000000 07:00 124                        /usr/lib/other
7f04490f5000-7f04490f7000 r-xp 00000000 00:00 0                          [vdso]
00793000 r--p 00393000 07:00 123 /usr/sbin/netd
00c00000-00b00000 r--p 00393000 07:00 123 /usr/sbin/netd
00c000`
	got := fmt.Sprintf("%x", readOnly(maps, "/usr/sbin/netd"))
	if want := "[{400000 793000} {793000 b2d000}]"; got != want {
		t.Errorf("parts %s, want %s", got, want)
	}
}

// TestUnmapProgram: the process goes on without the pages, which come again.
func TestUnmapProgram(t *testing.T) {
	for range 3 {
		if err := unmapProgram(); err != nil {
			t.Fatal(err)
		}
	}
}
