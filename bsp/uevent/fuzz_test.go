package uevent

import (
	"io/fs"
	"path/filepath"
	"testing"
)

// FuzzParseRules: an accepted rule is for something below /dev and gives permissions only.
func FuzzParseRules(f *testing.F) {
	f.Add(nodesTable, "net/tun")
	f.Add([]byte("[[node]]\npattern='snd/*'\nmode='0660'\n"), "snd/timer")
	f.Add([]byte("[[node]]\npattern='[a'\nmode='0660'\n"), "a")
	f.Add([]byte("[[node]]\npattern='../x'\nmode='4755'\nowner='me'\n"), "")
	f.Fuzz(func(t *testing.T, text []byte, node string) {
		rules, err := ParseRules("n.toml", text)
		if err != nil {
			return
		}
		for _, r := range rules {
			if r.Mode&^fs.ModePerm != 0 || !filepath.IsLocal(r.Pattern) || r.Pattern == "." {
				t.Errorf("rules %q: %+v", text, r)
			}
		}
		if mode, found := ModeOf(rules, node); !found && mode != 0 {
			t.Errorf("rules %q: mode %v of %q without a rule", text, mode, node)
		}
	})
}
