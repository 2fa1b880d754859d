package values

import (
	"strings"
	"testing"
)

// TestCheckName: a name in the network of an app is one that services/hostname accepts, or has hyphens where Docker
// permits them.
func TestCheckName(t *testing.T) {
	for name, want := range map[string]bool{"web": true, "my_app-web-1": true, "_x": true, "db.internal.example": true,
		"web-": true, "-web": true, "a.b-": true, strings.Repeat("-", 63): true, strings.Repeat("-", 64): false,
		"a..b": false, "": false, "a name": false, "10.0.0.1": false, "a;b": false} {
		if got := CheckName(name) == nil; got != want {
			t.Errorf("CheckName(%q) accepts it: %v, want %v", name, got, want)
		}
	}
}
