package reference

import (
	"strings"
	"testing"
)

var sum = "sha256:" + strings.Repeat("0a", 32)

func TestParse(t *testing.T) {
	for text, want := range map[string]Reference{
		"r.invalid/os:1.2.3":           {"r.invalid", "os", "1.2.3", ""},
		"oci://r.invalid/os":           {"r.invalid", "os", "latest", ""},
		"r.invalid:5000/a/b-c/d__e:v1": {"r.invalid:5000", "a/b-c/d__e", "v1", ""},
		"localhost/os@" + sum:          {"localhost", "os", "", sum},
		"127.0.0.1:80/os:t@" + sum:     {"127.0.0.1:80", "os", "t", sum},
		"[::1]:5000/os:t":              {"[::1]:5000", "os", "t", ""},
		"[fe80::1]/os:t":               {"[fe80::1]", "os", "t", ""},
	} {
		got, err := Parse(text)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", text, got, err, want)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", got, again, err, got)
		}
	}
}

func TestParseFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "names no registry",
		"os:1":                                 "names no registry",
		"directory/os:1":                       "names no registry",
		"./os:1":                               "names no registry",
		"../os.bundle":                         "names no registry",
		"/a.b/os":                              "names no registry",
		"[::1/os":                              "names no registry",
		"[::1]x/os":                            "names no registry",
		"r.invalid:/os":                        "names no registry",
		"user@r.invalid/os":                    "names no registry",
		"r.invalid/":                           "no name of a repository",
		"r.invalid/OS":                         "no name of a repository",
		"r.invalid/a/../b":                     "no name of a repository",
		"r.invalid/a//b":                       "no name of a repository",
		"r.invalid/os:":                        "no tag",
		"r.invalid/os:a b":                     "no tag",
		"r.invalid/os:../x":                    "no tag",
		"r.invalid/os?x=1:t":                   "no name of a repository",
		"r.invalid/os@sha256:12":               "no digest",
		"r.invalid/os@" + sum + "00":           "no digest",
		"r.invalid/os:@" + sum:                 "no tag",
		"r.invalid/os@md5:" + sum:              "no digest",
		"r.invalid/os@" + strings.ToUpper(sum): "no digest",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, want %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("oci://r.invalid:5000/a/b:c@" + sum)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		if again, err := Parse(r.String()); err != nil || again != r {
			t.Errorf("Parse(%q) = %+v; printed and parsed again: %+v, %v", text, r, again, err)
		}
	})
}
