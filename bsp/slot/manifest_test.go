package slot

import (
	"reflect"
	"strings"
	"testing"
)

func sample() Manifest {
	return Manifest{
		Format: ManifestFormat, Version: "0.1.0", Board: "b", Variant: "production", Arch: "arm64", Kernel: "6.12",
		Epoch:    1767225600,
		Files:    []File{{Name: Kernel, Size: 12, SHA256: strings.Repeat("0", 64)}},
		Packages: []Package{{Name: "linux", Version: "6.12-1", SHA256: "x"}},
	}
}

func TestManifestRoundTrip(t *testing.T) {
	text, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseManifest(text)
	if err != nil || !reflect.DeepEqual(got, sample()) {
		t.Errorf("ParseManifest(Encode()) = %+v, %v", got, err)
	}
}

func TestManifestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                 "unexpected end",
		"{":                "parse manifest.json",
		`{"format": 2}`:    "format 2",
		`{"format": 1} {}`: "after top-level value",
		`{"format": 1, "files": [{"name": "../x", "size": 1}]}`:                                `file "../x": name`,
		`{"format": 1, "files": [{"name": "/x", "size": 1}]}`:                                  `file "/x": name`,
		`{"format": 1, "files": [{"name": "x", "size": -1}]}`:                                  "size",
		`{"format": 1, "files": [{"name": "x", "sha256": "` + strings.Repeat("g", 64) + `"}]}`: "digest",
		`{"format": 1, "files": [{"name": "x"}, {"name": "x"}]}`:                               "listed twice",
	} {
		if _, err := ParseManifest([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseManifest(%q) = %v, want %q", text, err, want)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	text, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseManifest(text)
		if err != nil {
			return
		}
		if _, err := m.Encode(); err != nil {
			t.Errorf("Encode of what was parsed: %v", err)
		}
	})
}

func TestNames(t *testing.T) {
	if A.Other() != B || B.Other() != A || !A.Valid() || !B.Valid() || Name("C").Valid() || Name("").Valid() {
		t.Error("A and B are not the two slots")
	}
}
