package osrelease

import "testing"

func TestParse(t *testing.T) {
	for text, want := range map[string]string{"ID=x\nVARIANT_ID=development\n": "development",
		"VARIANT_ID=\"production\"": "production", "": ""} {
		if got := Parse(text, "VARIANT_ID"); got != want {
			t.Errorf("Parse(%q, VARIANT_ID) = %q, want %q", text, got, want)
		}
	}
}
