package button

import "testing"

func TestCounted(t *testing.T) {
	for text, want := range map[string]int{
		"       0         disabled     unmasked\n": 0,
		"       0     STS disabled     unmasked\n": 0,
		"       0  EN     enabled      unmasked\n": 0,
		"      12  EN     enabled      unmasked\n": 12,
		"":        0,
		"garbage": 0,
	} {
		if got := counted(text); got != want {
			t.Errorf("counted(%q) = %d, want %d", text, got, want)
		}
	}
}
