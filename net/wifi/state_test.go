package wifi

import (
	"testing"

	"resinos/net/wpa"
)

// TestStates reads what a real supplicant said on a booted device.
func TestStates(t *testing.T) {
	const wrong = `CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid="home" auth_failures=`
	const sae = "CTRL-EVENT-AUTH-REJECT 02:00:00:00:01:00 auth_type=3 auth_transaction=2 status_code=1"
	for _, tt := range []struct {
		name   string
		events []string
		want   string
	}{
		{"nothing in range", []string{"CTRL-EVENT-NETWORK-NOT-FOUND "},
			"searching: no network of a key file is in range"},
		{"one failed handshake", []string{wrong + "1 duration=10 reason=WRONG_KEY"},
			"searching: the handshake failed once: perhaps the password is wrong"},
		{"wrong password", []string{wrong + "1 duration=10 reason=WRONG_KEY", wrong + "2 duration=20 reason=WRONG_KEY"},
			"refused: wrong password"},
		{"wrong password of sae", []string{sae, sae, sae}, "refused: wrong password"},
		{"still wrong", []string{sae, sae, sae, "CTRL-EVENT-NETWORK-NOT-FOUND ", wrong + "3 reason=CONN_FAILED"},
			"refused: wrong password"},
		{"then right", []string{sae, sae, sae, "CTRL-EVENT-CONNECTED - Connection to 02:00:00:00:01:00 completed"},
			`joined "home"`},
		{"eap", []string{"CTRL-EVENT-EAP-FAILURE EAP authentication failed"},
			"refused: the server has refused the identity or password"},
		{"certificate", []string{"CTRL-EVENT-EAP-TLS-CERT-ERROR reason=7 depth=0 subject='/CN=x' " +
			"err='Domain mismatch'", "CTRL-EVENT-EAP-FAILURE EAP authentication failed"},
			"refused: the certificate of the server is not accepted: Domain mismatch"},
		{"certificate, then password", []string{"CTRL-EVENT-EAP-TLS-CERT-ERROR reason=1 depth=0 err='x'",
			"CTRL-EVENT-EAP-STARTED EAP authentication started", "CTRL-EVENT-EAP-FAILURE EAP authentication failed"},
			"refused: the server has refused the identity or password"},
	} {
		s := State{Phase: Searching}
		for _, text := range tt.events {
			e, _ := wpa.ParseEvent([]byte("<3>" + text))
			next, refresh := s.Event(e)
			if s = next; refresh {
				s = s.Status("wpa_state=COMPLETED\nssid=home\nbssid=02:00:00:00:01:00\n", "0123 home.nmconnection")
			}
		}
		if got := s.Words(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestGone: an access point that vanishes is told, and the file of its network stays, so that the addresses come back
// with it.
func TestGone(t *testing.T) {
	s := State{Phase: Joined, File: "home", SSID: "home", Signal: -40}
	e, _ := wpa.ParseEvent([]byte("<3>CTRL-EVENT-DISCONNECTED bssid=02:00:00:00:01:00 reason=4 locally_generated=1"))
	s, _ = s.Event(e)
	s = s.Status("wpa_state=SCANNING\n", "")
	if s.Words() != "searching: the access point is gone" || s.File != "home" || s.Signal != 0 {
		t.Errorf("%q, %+v", s.Words(), s)
	}
}

// TestGoneInHandshake: an access point that vanishes while the device joins is told, and is no refusal: not even of the
// password, which the supplicant takes for wrong, and the same access point is joined when it is back.
func TestGoneInHandshake(t *testing.T) {
	for _, tt := range []struct {
		name   string
		events []string
		want   string
	}{
		{"before the keys", []string{"CTRL-EVENT-DISCONNECTED bssid=02:00:00:00:01:00 reason=3 locally_generated=1"},
			"searching: the connection ended before the device had joined; it is tried again"},
		{"silent", []string{"CTRL-EVENT-NETWORK-NOT-FOUND ",
			`CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid="home" auth_failures=1 duration=10 reason=CONN_FAILED`,
			"CTRL-EVENT-NETWORK-NOT-FOUND "}, "searching: the connection failed; it is tried again"},
		{"refused for a reason", []string{"CTRL-EVENT-NETWORK-NOT-FOUND ",
			"CTRL-EVENT-ASSOC-REJECT bssid=02:00:00:00:01:00 status_code=17",
			`CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid="home" auth_failures=1 duration=10 reason=CONN_FAILED`},
			"searching: the access point refuses to connect, status 17"},
		{"among the keys", []string{"CTRL-EVENT-DISCONNECTED bssid=02:00:00:00:01:00 reason=4 locally_generated=1",
			`CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid="home" auth_failures=1 duration=10 reason=WRONG_KEY`,
			"CTRL-EVENT-NETWORK-NOT-FOUND "},
			"searching: the handshake failed once: perhaps the password is wrong"},
		{"and back", []string{`CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid="home" auth_failures=1 reason=WRONG_KEY`,
			"CTRL-EVENT-CONNECTED - Connection to 02:00:00:00:01:00 completed"}, `joined "home"`},
	} {
		s := State{Phase: Searching}
		for _, text := range tt.events {
			e, _ := wpa.ParseEvent([]byte("<3>" + text))
			next, refresh := s.Event(e)
			if s = next; refresh {
				status := "wpa_state=SCANNING\n"
				if e.Name == "CTRL-EVENT-CONNECTED" {
					status = "wpa_state=COMPLETED\nssid=home\nbssid=02:00:00:00:01:00\n"
				}
				s = s.Status(status, "0123 home.nmconnection")
			}
		}
		if got := s.Words(); got != tt.want || s.Phase == Refused {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
