package values

import "testing"

// TestCheckName: a name in the network of an app is one that services/hostname accepts.
func TestCheckName(t *testing.T) {
	for name, want := range map[string]bool{"web": true, "my_app-web-1": true, "_x": true, "db.internal.example": true,
		"-web": false, "web-": false, "a.-b": false, "a..b": false, "": false, "a name": false, "10.0.0.1": false} {
		if got := CheckName(name) == nil; got != want {
			t.Errorf("CheckName(%q) accepts it: %v, want %v", name, got, want)
		}
	}
}
