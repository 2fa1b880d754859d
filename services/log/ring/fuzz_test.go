package ring

import (
	"strings"
	"testing"

	"resinos/services/log/chunk"
)

// FuzzFileNames: a name that is taken for that of a boot or of a chunk is the one that would be written for it.
func FuzzFileNames(f *testing.F) {
	f.Add(BootDir(7, [16]byte{1, 2, 3}))
	f.Add(chunk.FileName(0x1234))
	f.Add("0000000a-00000000-0000-0000-0000-000000000000")
	f.Add("+1" + chunk.Suffix)
	f.Add("")
	f.Fuzz(func(t *testing.T, name string) {
		if number, id, ok := ParseBootDir(name); ok {
			digits := strings.SplitN(BootDir(number, [16]byte{}), "-", 2)[0]
			if digits+"-"+id != name {
				t.Errorf("ParseBootDir(%q) = %d, %q, whose name is %q", name, number, id, digits+"-"+id)
			}
		}
		if first, ok := chunk.ParseFileName(name); ok && chunk.FileName(first) != name {
			t.Errorf("ParseFileName(%q) = %d, whose name is %q", name, first, chunk.FileName(first))
		}
	})
}
