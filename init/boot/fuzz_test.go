package boot

import (
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParseSysctls: no key that is accepted leads out of /proc/sys.
func FuzzParseSysctls(f *testing.F) {
	f.Add(sysctlTable)
	f.Add("[[sysctl]]\nkey='kernel..panic'\nvalue='1'\n")
	f.Add("[[sysctl]]\nkey='../../etc/passwd'\nvalue=''\nother=1\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParseSysctls("s.toml", text)
		if err != nil {
			return
		}
		for _, s := range list {
			path := filepath.Join("/proc/sys", strings.ReplaceAll(s.Key, ".", "/")) // as applySysctl makes it
			if s.Key == "" || path != "/proc/sys" && !strings.HasPrefix(path, "/proc/sys/") {
				t.Errorf("table %q: key %q is %s", text, s.Key, path)
			}
		}
	})
}
