package registryclient

import (
	"strings"
	"testing"
)

// FuzzParseChallenge: whatever a registry answers, the challenge is read to its end, and each value is from the answer.
func FuzzParseChallenge(f *testing.F) {
	for _, text := range []string{
		`Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull"`,
		`Basic realm="Registry"`, "Basic", "", `Bearer realm=https://auth.example/token, service=x`,
		`Bearer realm="unterminated`, "Bearer ,,,=,=,", "bearer  a==b", `Bearer a="",b=,="c"`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		kind, values := parseChallenge(text)
		if kind != strings.ToLower(kind) || strings.Contains(kind, " ") {
			t.Errorf("kind %q of %q", kind, text)
		}
		for key, value := range values {
			if key != strings.ToLower(key) || strings.Contains(key, "=") || !strings.Contains(text, value) {
				t.Errorf("%q is %q in %q", key, value, text)
			}
		}
	})
}
