package manifest

import (
	"reflect"
	"strings"
	"testing"
)

func sample() Manifest {
	return Manifest{
		Format: Format, Version: "0.1.0", Board: "b", Variant: "production", Arch: "arm64", Kernel: "6.12", Epoch: 1767225600,
		Files:    []File{{Name: "vmlinuz", Size: 12, SHA256: strings.Repeat("0", 64)}},
		Packages: []Package{{Name: "linux", Version: "6.12-1", SHA256: "x"}},
	}
}

func TestRoundTrip(t *testing.T) {
	text, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(text)
	if err != nil || !reflect.DeepEqual(got, sample()) {
		t.Errorf("Parse(Encode()) = %+v, %v", got, err)
	}
}

func TestParseFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":              "EOF",
		"{":             "parse manifest.json",
		`{"format": 2}`: "format 2",
		`{"format": 1, "files": [{"name": "../x", "size": 1}]}`: `file "../x"`,
		`{"format": 1, "files": [{"name": "x", "size": -1}]}`:   "size",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, want %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse(text)
		if err != nil {
			return
		}
		if _, err := m.Encode(); err != nil {
			t.Errorf("Encode of what was parsed: %v", err)
		}
	})
}
