package fsck

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"resinos/mounts/testenv"
)

// TestRecheck: the mark of a fault goes if there is none, with one sector written; else it stays, and somebody is told.
func TestRecheck(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "debugfs", "e2fsck", "dumpe2fs")
	for name, tt := range map[string]struct {
		mke2fs []string
		debug  []string // debugfs commands
		said   string
		fault  string
	}{
		"no mark": {said: "", debug: nil},
		"a mark": {debug: []string{"ssv state 3", "ssv error_count 5", "ssv first_error_time 20260101",
			"ssv first_error_func ext4_lookup", "ssv last_error_func ext4_lookup"}, said: "e2fsck finds none"},
		"a mark, no checksum": {mke2fs: []string{"-O", "^metadata_csum,^metadata_csum_seed"},
			debug: []string{"ssv state 3", "ssv error_count 1"}, said: "e2fsck finds none"},
		"a fault": {debug: []string{"clri hello", "ssv state 3"}, fault: "so does e2fsck: exit status 4"},
	} {
		t.Run(name, func(t *testing.T) {
			file := newExt4(t, 16, tt.mke2fs...)
			for _, command := range tt.debug {
				testenv.Run(t, "debugfs", "-w", "-R", command, file)
			}
			before, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			said, err := Recheck(t.Context(), hostRun(t), file)
			if (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) ||
				!strings.Contains(said, tt.said) || (said == "") != (tt.said == "") {
				t.Fatalf("Recheck = %q, %v", said, err)
			}
			after, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if tt.said == "" {
				if !bytes.Equal(before, after) {
					t.Error("something was written")
				}
				return
			}
			if !bytes.Equal(before[:1024], after[:1024]) || !bytes.Equal(before[1536:], after[1536:]) {
				t.Error("more was written than the first sector of the superblock")
			}
			if why := look(t, file, "ext4").Why; why != "" {
				t.Errorf("it is still to be repaired: %s", why)
			}
			testenv.Run(t, "e2fsck", "-f", "-n", file) // fails if it finds anything
			if text := testenv.Run(t, "dumpe2fs", "-h", file); strings.Contains(text, "rror count") ||
				!strings.Contains(text, "state:         clean\n") {
				t.Errorf("it says\n%s", text)
			}
			if said, err := Recheck(t.Context(), hostRun(t), file); said != "" || err != nil {
				t.Errorf("a second time: %q, %v", said, err)
			}
		})
	}
}
