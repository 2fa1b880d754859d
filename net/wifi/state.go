package wifi

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"resinos/net/wpa"
)

// Phase is what a radio does.
type Phase string

// The phases.
const (
	Idle      Phase = "idle"      // no network is wanted
	Starting  Phase = "starting"  // the supplicant does not answer yet
	Searching Phase = "searching" // no wanted network is in range
	Joining   Phase = "joining"
	Joined    Phase = "joined"
	Serving   Phase = "access point"
	Refused   Phase = "refused" // the access point has refused the device, several times
)

// State is what is known of one radio.
type State struct {
	Phase     Phase
	File      string // of the network that is joined, or was last
	SSID      string
	BSSID     string
	Frequency int    // MHz
	Signal    int    // dBm; 0: not known
	Reason    string // why the radio has not joined, in words; empty: nothing is wrong

	rejects map[string]int // SAE handshakes that failed since the last success, by access point
	cert    bool           // in this try of EAP, the certificate was not accepted
}

// Words says in a line what the radio does. Bytes of the SSID are as the access point sent them.
func (s State) Words() string {
	text := string(cmp.Or(s.Phase, Idle))
	if s.SSID != "" && (s.Phase == Joined || s.Phase == Joining || s.Phase == Serving) {
		text += " " + strconv.Quote(s.SSID)
	}
	if s.Signal != 0 && s.Phase == Joined {
		text += fmt.Sprintf(" %d dBm", s.Signal)
	}
	if s.Reason != "" && s.Phase != Joined && s.Phase != Serving {
		text += ": " + s.Reason
	}
	return text
}

// The number of failures in a row after which a password counts as wrong: on a busy channel a handshake with the right
// one fails now and then.
const (
	wrongKeys    = 2
	wrongRejects = 3
)

// What is told while there is no access point to try.
const (
	outOfRange = "no network of a key file is in range"
	gone       = "the access point is gone"
)

// Event returns the state after an event. refresh reports that only the supplicant knows the rest, so that its STATUS
// is to be read.
func (s State) Event(e wpa.Event) (next State, refresh bool) {
	next = s
	switch e.Name {
	case "CTRL-EVENT-CONNECTED", "AP-ENABLED":
		next.Reason, next.rejects = "", nil
		return next, true
	case "CTRL-EVENT-DISCONNECTED":
		if s.Phase == Searching || s.Phase == Joining {
			next.tried("the connection ended before the device had joined; it is tried again")
		}
		if s.Phase == Joined {
			next.Phase = Searching
			next.Reason = gone
			if reason := e.Value("reason"); reason != "" && e.Value("locally_generated") == "" {
				next.Reason = "the access point has ended the connection, reason " + reason
			}
		}
		next.Signal = 0
		return next, true
	case "AP-DISABLED", "CTRL-EVENT-SUBNET-STATUS-UPDATE":
		return next, true
	case "CTRL-EVENT-NETWORK-NOT-FOUND":
		if s.Phase != Refused {
			next.Phase = Searching
			next.Reason = cmp.Or(s.Reason, outOfRange)
		}
	case "CTRL-EVENT-SSID-TEMP-DISABLED":
		next.disabled(e)
	case "CTRL-EVENT-AUTH-REJECT":
		next.rejected(e)
	case "CTRL-EVENT-ASSOC-REJECT":
		next.Reason = "the access point refuses to connect, status " + e.Value("status_code")
	case "CTRL-EVENT-EAP-STARTED":
		next.cert = false
	case "CTRL-EVENT-EAP-FAILURE":
		next.Phase = Refused
		if !s.cert { // it has ended the try
			next.Reason = "the server has refused the identity or password"
		}
	case "CTRL-EVENT-EAP-TLS-CERT-ERROR":
		next.Phase, next.cert = Refused, true
		next.Reason = "the certificate of the server is not accepted: " + e.Value("err")
	case "CTRL-EVENT-REGDOM-CHANGE", "CTRL-EVENT-SCAN-RESULTS", "CTRL-EVENT-SCAN-STARTED":
	case "CTRL-EVENT-SCAN-FAILED":
		next.Reason = "the radio cannot scan, error " + e.Value("ret")
	}
	return next, false
}

// disabled handles that a network is not tried for some time.
func (s *State) disabled(e wpa.Event) {
	failures, _ := strconv.Atoi(e.Value("auth_failures"))
	s.SSID = cmp.Or(e.Value("ssid"), s.SSID)
	switch reason := e.Value("reason"); {
	case reason == "WRONG_KEY" && failures >= wrongKeys:
		s.Phase, s.Reason = Refused, "wrong password"
	case reason == "WRONG_KEY":
		s.Reason = "the handshake failed once: perhaps the password is wrong"
	case s.Phase == Refused:
	case reason == "AUTH_FAILED":
		s.Phase, s.Reason = Refused, "the server has refused the identity or password"
	default:
		s.tried("the connection failed; it is tried again")
	}
}

// tried takes how a try to join ended, unless it is known why. That there was nothing to try before is not why.
func (s *State) tried(end string) {
	if s.Reason == "" || s.Reason == outOfRange || s.Reason == gone {
		s.Reason = end
	}
}

// rejected handles a refusal in the first step. With SAE, a wrong password shows in its second message.
func (s *State) rejected(e wpa.Event) {
	if e.Value("auth_type") != "3" {
		s.Reason = "the access point refuses the device, status " + e.Value("status_code")
		return
	}
	bssid, _, _ := strings.Cut(e.Text, " ")
	rejects := map[string]int{bssid: 1}
	for known, n := range s.rejects {
		if len(rejects) < 16 {
			rejects[known] += n
		}
	}
	s.rejects = rejects
	if rejects[bssid] >= wrongRejects {
		s.Phase, s.Reason = Refused, "wrong password"
	} else if s.Phase != Refused {
		s.Reason = "the handshake failed: perhaps the password is wrong"
	}
}

// Status returns the state after the supplicant's reply to STATUS. id is the identity of the current network, as id_str
// has it; empty: none.
func (s State) Status(reply, id string) State {
	p := wpa.Pairs(reply)
	if s.Phase == Starting {
		s.Reason = "" // it was about the supplicant
	}
	s.BSSID, s.SSID = p["bssid"], string(wpa.Unescape(p["ssid"]))
	s.Frequency, _ = strconv.Atoi(p["freq"])
	if p["wpa_state"] != "COMPLETED" {
		s.Signal = 0
	}
	switch p["wpa_state"] {
	case "COMPLETED":
		s.Phase, s.Reason, s.rejects = Joined, "", nil
		if p["mode"] == "AP" {
			s.Phase = Serving
		}
		s.File = cmp.Or(fileOf(id), s.File)
	case "AUTHENTICATING", "ASSOCIATING", "ASSOCIATED", "4WAY_HANDSHAKE", "GROUP_HANDSHAKE":
		if s.Phase != Refused {
			s.Phase = Joining
		}
	case "INTERFACE_DISABLED":
		s.Phase, s.Reason = Searching, "the radio is switched off"
	case "SCANNING", "DISCONNECTED", "INACTIVE":
		if s.Phase != Refused {
			s.Phase = Searching
		}
	}
	return s
}
