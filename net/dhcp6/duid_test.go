package dhcp6

import (
	"fmt"
	"net"
	"testing"
)

func TestDUID(t *testing.T) {
	hardware := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for wish, want := range map[string]string{
		"ll": "00030001020000000001", "00:01:02:03": "00010203", "0001020304": "0001020304",
		"": "stable", "lease": "stable", "stable-uuid": "stable", "0": "stable", "zz:zz": "stable",
	} {
		if want == "stable" {
			want = fmt.Sprintf("%x", DUID("", "device", nil))
		}
		if got := fmt.Sprintf("%x", DUID(wish, "device", hardware)); got != want {
			t.Errorf("DUID(%q) = %s, want %s", wish, got, want)
		}
	}
	if one := DUID("", "device", nil); len(one) != 18 || string(one) == string(DUID("", "other", nil)) {
		t.Errorf("DUID of a device: %x", one)
	}
}
