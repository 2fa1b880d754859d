package sysctl

import (
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse: no key that is accepted leads out of /proc/sys.
func FuzzParse(f *testing.F) {
	f.Add(table)
	f.Add("[[sysctl]]\nkey='kernel..panic'\nvalue='1'\n")
	f.Add("[[sysctl]]\nkey='../../etc/passwd'\nvalue=''\nother=1\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := Parse("s.toml", text)
		if err != nil {
			return
		}
		for _, s := range list {
			path := filepath.Join(Root, strings.ReplaceAll(s.Key, ".", "/")) // as Apply makes it
			if s.Key == "" || path != Root && !strings.HasPrefix(path, Root+"/") {
				t.Errorf("table %q: key %q is %s", text, s.Key, path)
			}
		}
	})
}
