package updating

import (
	"os"
	"path/filepath"
	"testing"
)

// TestWhole: what reads like a reference is one unless a file of that name is there.
func TestWhole(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"there.example/os:1", "x.bundle"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for source, want := range map[string]string{
		"https://a.example/x":      "https://a.example/x",
		"oci://there.example/os:1": "oci://there.example/os:1",
		"there.example/os:1":       dir + "/there.example/os:1",
		"gone.example/os:1":        "oci://gone.example/os:1",
		"localhost:5000/os":        "oci://localhost:5000/os",
		"x.bundle":                 dir + "/x.bundle",
		"gone.bundle":              dir + "/gone.bundle",
		"mnt/x.bundle":             dir + "/mnt/x.bundle",
		"../x.bundle":              filepath.Dir(dir) + "/x.bundle",
		"/mnt/x.bundle":            "/mnt/x.bundle",
	} {
		if got, err := whole(source); err != nil || got != want {
			t.Errorf("whole(%q) = %q, %v, want %q", source, got, err, want)
		}
	}
}
