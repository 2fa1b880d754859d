package attach

import "testing"

// FuzzParseTable: every entry of a table that is accepted can be attached, and no target is there twice.
func FuzzParseTable(f *testing.F) {
	f.Add(table)
	f.Add("[[mount]]\nname='a'\ntarget='/a'\ntype='tmpfs'\nflags=['nosuid']\n" +
		"[[mount]]\nname='a'\ntarget='/a'\ntype='tmpfs'\n")
	f.Add("[[mount]]\ntarget='/a/../b'\nother=1\n[x.y]\nz={q=1}\n")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := ParseTable("t.toml", text)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, e := range entries {
			if err := e.Check(); err != nil || seen[e.Target] {
				t.Errorf("table %q: entry %+v: %v, named twice: %t", text, e, err, seen[e.Target])
			}
			seen[e.Target] = true
		}
	})
}
