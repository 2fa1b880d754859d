package stage1

import (
	"strings"
	"testing"
)

// FuzzParseModules: a name has no white space around it, no comment and no second line.
func FuzzParseModules(f *testing.F) {
	f.Add("virtio_blk\n\n# of the board\next4 # with its journal\n\tsquashfs")
	f.Add("\r\n#\n a # b # c")
	f.Fuzz(func(t *testing.T, text string) {
		names := ParseModules(text)
		for _, name := range names {
			if name == "" || name != strings.TrimSpace(name) || strings.ContainsAny(name, "#\n") {
				t.Errorf("ParseModules(%q) has %q", text, name)
			}
		}
		if again := ParseModules(strings.Join(names, "\n")); len(again) != len(names) {
			t.Errorf("ParseModules(%q) = %q, of which %q is read again", text, names, again)
		}
	})
}
