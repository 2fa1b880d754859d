package fetcher

import (
	"testing"

	"github.com/distribution/reference"
)

// TestDomainOf: a login at an old address of docker's own registry counts for its short names.
func TestDomainOf(t *testing.T) {
	named, err := reference.ParseNormalizedNamed("x")
	if err != nil {
		t.Fatal(err)
	}
	short := reference.Domain(named)
	for host, want := range map[string]string{"index." + short: short, "a.invalid:5000": "a.invalid:5000", "?": "?"} {
		if got := domainOf(host); got != want {
			t.Errorf("domainOf(%q) = %q, want %q", host, got, want)
		}
	}
}
