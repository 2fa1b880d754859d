package wpa

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

func TestParseEvent(t *testing.T) {
	for _, tt := range []struct {
		text  string
		event bool
		want  Event
	}{
		{"IFNAME=wlan0 <3>CTRL-EVENT-SCAN-RESULTS ", true, Event{"wlan0", "CTRL-EVENT-SCAN-RESULTS", ""}},
		{"<3>CTRL-EVENT-TERMINATING ", true, Event{"", "CTRL-EVENT-TERMINATING", ""}},
		{"<2>Trying to associate with SSID 'a b'", true, Event{"", "Trying", "to associate with SSID 'a b'"}},
		{"OK\n", false, Event{}},
		{"bssid / frequency / signal level / flags / ssid\n", false, Event{}},
		{"IFNAME=wlan0", false, Event{}},
		{"IFNAME=wlan0 OK", false, Event{}},
		{"<x>CTRL", false, Event{}},
		{"<3", false, Event{}},
		{"", false, Event{}},
	} {
		got, is := ParseEvent([]byte(tt.text))
		if is != tt.event || got != tt.want {
			t.Errorf("ParseEvent(%q) = %+v, %t", tt.text, got, is)
		}
	}
}

func TestValue(t *testing.T) {
	temp := Event{Text: `id=0 ssid="a \" id=7 b" auth_failures=2 duration=20 reason=WRONG_KEY`}
	done := Event{Text: `- Connection to 02:00:00:00:01:00 completed [id=3 id_str=]`}
	for _, tt := range []struct {
		e         Event
		key, want string
	}{
		{temp, "id", "0"}, {temp, "ssid", `a " id=7 b`}, {temp, "auth_failures", "2"}, {temp, "reason", "WRONG_KEY"},
		{temp, "nothing", ""}, {done, "id_str", ""},
		{Event{Text: "02:00:00:00:00:00 (SSID='it's' freq=2412 MHz)"}, "freq", "2412"},
		{Event{Text: `ssid="`}, "ssid", ""}, {Event{Text: "x="}, "x", ""}, {Event{}, "", ""},
	} {
		if got := tt.e.Value(tt.key); got != tt.want {
			t.Errorf("%q: Value(%q) = %q, want %q", tt.e.Text, tt.key, got, tt.want)
		}
	}
}

func TestParseBSS(t *testing.T) {
	reply := "id=4\nbssid=02:00:00:00:01:00\nfreq=2412\nlevel=-30\nflags=[WPA2-PSK-CCMP][ESS]\n" +
		"ssid=caf\\xc3\\xa9 \\\"x\\\\\n"
	b, ok := ParseBSS(reply)
	want := BSS{4, "02:00:00:00:01:00", "café \"x\\", 2412, -30, "[WPA2-PSK-CCMP][ESS]"}
	if !ok || b != want || b.Security() != "psk" {
		t.Errorf("ParseBSS = %+v, %t, %s", b, ok, b.Security())
	}
	for _, bad := range []string{"", "FAIL\n", "id=4\n", "id=4\nbssid=x\nfreq=1\nlevel=1\n"} {
		if _, ok := ParseBSS(bad); ok {
			t.Errorf("ParseBSS(%q) is accepted", bad)
		}
	}
}

func TestSecurity(t *testing.T) {
	for flags, want := range map[string]string{
		"[WPA2-PSK+SAE-CCMP][ESS]": "psk", "[WPA2-SAE-CCMP][SAE-H2E][ESS]": "sae", "[WPA2-EAP-CCMP][ESS]": "eap",
		"[ESS]": "open", "[WEP][ESS]": "wep", "[WPA2-OWE-CCMP][ESS]": "owe", "[OWE-TRANS-OPEN][ESS]": "owe",
	} {
		if got := (BSS{Flags: flags}).Security(); got != want {
			t.Errorf("%s is %s, want %s", flags, got, want)
		}
	}
}

func TestNetworkIDs(t *testing.T) {
	got := NetworkIDs("network id / ssid / bssid / flags\n0\ta\\tb\tany\t[DISABLED]\n12\tx\tany\t[CURRENT]\nx\ty\n")
	if !slices.Equal(got, []string{"0", "12"}) {
		t.Errorf("NetworkIDs = %q", got)
	}
}

func TestQuote(t *testing.T) {
	if q, err := Quote(`pass"word$(reboot)`); err != nil || q != `"pass"word$(reboot)"` {
		t.Errorf("Quote = %s, %v", q, err)
	}
	for _, bad := range []string{"", "two\nlines", "nul\x00"} {
		if _, err := Quote(bad); err == nil {
			t.Errorf("Quote(%q) is accepted", bad)
		}
	}
}

// FuzzParse: whatever the supplicant or the air says, nothing panics, and a printed name reads back as it was.
func FuzzParse(f *testing.F) {
	f.Add([]byte("IFNAME=wlan0 <3>CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid=\"a\" reason=WRONG_KEY"))
	f.Add([]byte("id=4\nbssid=02:00:00:00:01:00\nfreq=2412\nlevel=-30\nflags=[ESS]\nssid=caf\\xc3\n"))
	f.Add([]byte("0\tname\tany\t[CURRENT]\n"))
	f.Add([]byte(`\x`))
	f.Add([]byte(`\x4`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, is := ParseEvent(data); is {
			for _, key := range []string{"id", "ssid", "reason"} {
				e.Value(key)
			}
		}
		Pairs(string(data))
		NetworkIDs(string(data))
		if b, ok := ParseBSS(string(data)); ok && len(b.SSID) > 32 {
			t.Errorf("a name of %d bytes", len(b.SSID))
		}
		var printed []byte
		for _, c := range data {
			printed = fmt.Appendf(printed, `\x%02x`, c)
		}
		if got := Unescape(string(printed)); !bytes.Equal(got, data) {
			t.Errorf("%q reads as %q", printed, got)
		}
	})
}
