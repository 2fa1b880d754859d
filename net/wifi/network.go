// Package wifi drives the radios of a device: it turns the profiles of a radio into networks of wpa_supplicant, lets
// the service wifi run only while it is needed, and reads the state of each radio.
//
// It never gives a link addresses (netd does), and never starts a process: a file that it writes makes PID 1 start the
// service. No password is in a text that it returns or logs.
//
// Read first: Network, then Driver.
package wifi

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"resinos/net/keyvalue"
	"resinos/net/profile"
	"resinos/net/wpa"
)

// Network is what one profile asks of wpa_supplicant.
type Network struct {
	File     string // the key file
	SSID     string // bytes, which need not be text
	Mode     string // infrastructure, ap or adhoc
	Settings []Setting
	Fault    string   // why the profile cannot be used; empty: it can
	Notes    []string // what the profile asks for and does not get
}

// Setting is one variable of a network as SET_NETWORK takes it.
type Setting struct {
	Name    string
	Value   string // in the form of the supplicant: quoted, hexadecimal or a word
	Secret  bool   // Value is never shown
	Content []byte // of the file that Value names, if the profile holds a certificate itself
}

// String shows the setting without a secret.
func (s Setting) String() string {
	if s.Secret {
		return s.Name + "=(hidden)"
	}
	return s.Name + "=" + s.Value
}

// id names the network within the supplicant: the file, and a digest of all settings, so that a netd that was started
// again finds which networks are there already.
func (n Network) id() string {
	sum := sha256.New()
	for _, s := range n.Settings {
		fmt.Fprintf(sum, "%q=%q\n", s.Name, s.Value)
	}
	return fmt.Sprintf("%x %s", sum.Sum(nil)[:16], n.File)
}

// fileOf returns the file of a network with an id.
func fileOf(id string) string {
	_, file, _ := strings.Cut(id, " ")
	return file
}

// plan collects the settings of one network.
type plan struct {
	Network
	certificates string // directory of certificates that profiles hold themselves
	faults       []error
}

// For returns the network of a profile. certificates is the directory in which the driver writes the certificates that
// the profile holds itself.
func For(file string, p profile.Profile, certificates string) Network {
	w := p.WiFi
	if w == nil {
		return Network{File: file, Fault: "the section [wifi] is missing"}
	}
	n := plan{Network: Network{File: file, SSID: string(w.SSID), Mode: cmp.Or(w.Mode, "infrastructure")},
		certificates: certificates}
	n.put("ssid", wpa.Hex(n.SSID))
	n.put("priority", strconv.FormatInt(p.Connection.Priority+1000, 10)) // from 1 to 1999
	n.radio(w)
	if p.Security == nil {
		n.put("key_mgmt", "NONE")
	} else {
		n.security(p)
	}
	if err := errors.Join(n.faults...); err != nil {
		n.Fault = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return n.Network
}

func (n *plan) put(name, value string) {
	n.Settings = append(n.Settings, Setting{Name: name, Value: value})
}

// text puts any bytes; nothing if there are none.
func (n *plan) text(name, value string) {
	if value != "" {
		n.put(name, wpa.Hex(value))
	}
}

// secret puts any bytes that nobody may see; nothing if there are none.
func (n *plan) secret(name string, value keyvalue.Secret) {
	if text := value.Reveal(); text != "" {
		n.Settings = append(n.Settings, Setting{Name: name, Value: wpa.Hex(text), Secret: true})
	}
}

func (n *plan) fault(format string, args ...any) {
	n.faults = append(n.faults, fmt.Errorf(format, args...))
}

func (n *plan) note(format string, args ...any) {
	n.Notes = append(n.Notes, fmt.Sprintf(format, args...))
}

// modes are the supplicant's numbers.
var modes = map[string]string{"infrastructure": "0", "adhoc": "1", "ap": "2"}

// radio puts what does not concern security.
func (n *plan) radio(w *profile.WiFi) {
	mode, known := modes[n.Mode]
	if !known {
		n.fault("[wifi] mode: %s has no driver", n.Mode)
		return
	}
	n.put("mode", mode)
	if w.BSSID != "" {
		n.put("bssid", strings.ToLower(string(w.BSSID)))
	}
	if n.Mode == "infrastructure" {
		if w.Hidden {
			n.put("scan_ssid", "1")
		}
		if w.ClonedMAC == "random" {
			n.put("mac_addr", "1")
		}
		// Looks for a better access point of the same name, often while the signal is weak (dBm).
		n.put("bgscan", `"simple:30:-70:86400"`)
	} else if w.Hidden {
		n.put("ignore_broadcast_ssid", "1")
	}
	n.frequencies(w)
	if w.Powersave > 2 {
		n.note("[wifi] powersave=%d has no effect: the radio never saves power", w.Powersave)
	}
}

// security puts what [wifi-security] says.
func (n *plan) security(p profile.Profile) {
	s := p.Security
	switch s.KeyMgmt {
	case "none":
		n.put("key_mgmt", "NONE")
		n.wep(s)
		return
	case "wpa-psk":
		n.psk(s)
	case "sae":
		n.put("key_mgmt", "SAE")
		n.put("ieee80211w", "2")
		if n.password("psk", s) {
			n.secret("sae_password", s.PSK)
		}
	case "owe":
		n.put("key_mgmt", "OWE")
		n.put("ieee80211w", "2")
	case "wpa-eap":
		n.put("key_mgmt", "WPA-EAP WPA-EAP-SHA256")
		n.pmf(s, "1")
		n.eap(p.EAP)
	case "wpa-eap-suite-b-192":
		n.put("key_mgmt", "WPA-EAP-SUITE-B-192")
		n.put("ieee80211w", "2")
		n.put("pairwise", "GCMP-256")
		n.put("group", "GCMP-256")
		n.put("group_mgmt", "BIP-GMAC-256")
		n.eap(p.EAP)
		return
	default:
		n.fault("[wifi-security] key-mgmt: %s has no driver", s.KeyMgmt)
		return
	}
	n.words("proto", s.Proto, map[string]string{"wpa": "WPA", "rsn": "RSN"})
	ciphers := map[string]string{"tkip": "TKIP", "ccmp": "CCMP", "wep40": "WEP40", "wep104": "WEP104"}
	n.words("pairwise", s.Pairwise, ciphers)
	n.words("group", s.Group, ciphers)
	if n.Mode == "ap" && len(s.Proto)+len(s.Pairwise) == 0 {
		n.put("proto", "RSN")
		n.put("pairwise", "CCMP")
	}
}

// pmf puts whether management frames are protected: 1 of the profile is off, 2 is optional, 3 is required.
func (n *plan) pmf(s *profile.Security, usual string) {
	value := map[int64]string{1: "0", 2: "1", 3: "2"}[s.PMF]
	n.put("ieee80211w", cmp.Or(value, usual))
}

// words puts a list of words, in the supplicant's spelling.
func (n *plan) words(name string, values []string, spelling map[string]string) {
	var out []string
	for _, v := range values {
		out = append(out, spelling[v])
	}
	if len(out) > 0 {
		n.put(name, strings.Join(out, " "))
	}
}

// password reports whether the profile holds a password, and says what is wrong if it does not.
func (n *plan) password(key string, s *profile.Security) bool {
	if s.PSK.Reveal() != "" {
		return true
	}
	why := "is missing"
	if s.PSKFlags != 0 {
		why = fmt.Sprintf("is missing: with %s-flags=%d somebody has to be asked for it, and nobody is there", key,
			s.PSKFlags)
	}
	n.fault("[wifi-security] %s: %s", key, why)
	return false
}

// psk puts a password of WPA. Access points that offer WPA3 beside it are joined by WPA3.
func (n *plan) psk(s *profile.Security) {
	methods := "WPA-PSK WPA-PSK-SHA256"
	if n.Mode != "infrastructure" {
		methods = "WPA-PSK"
	}
	if !n.password("psk", s) {
		return
	}
	password := s.PSK.Reveal()
	if isKey(password) {
		n.Settings = append(n.Settings, Setting{Name: "psk", Value: strings.ToLower(password), Secret: true})
	} else {
		quoted, err := wpa.Quote(password)
		if len(password) < 8 || len(password) > 63 || err != nil {
			n.fault("[wifi-security] psk: a password has 8 to 63 characters without control characters, "+
				"a key has 64 hexadecimal digits; this one has %d bytes", len(password))
			return
		}
		n.Settings = append(n.Settings, Setting{Name: "psk", Value: quoted, Secret: true})
		if n.Mode == "infrastructure" && s.PMF != 1 {
			methods += " SAE"
		}
	}
	n.put("key_mgmt", methods)
	usual := "1"
	if n.Mode != "infrastructure" {
		usual = "0"
	}
	n.pmf(s, usual)
}

func isKey(text string) bool {
	return len(text) == 64 && isHex(text)
}

func isHex(text string) bool { return strings.Trim(text, "0123456789abcdefABCDEF") == "" }

// wep puts the keys of WEP, which protects nothing.
func (n *plan) wep(s *profile.Security) {
	keys := []keyvalue.Secret{s.WEPKey0, s.WEPKey1, s.WEPKey2, s.WEPKey3}
	for i, key := range keys {
		text := key.Reveal()
		name := fmt.Sprintf("wep_key%d", i)
		switch {
		case text == "":
		case s.WEPType != 2 && (len(text) == 10 || len(text) == 26) && isHex(text):
			n.Settings = append(n.Settings, Setting{Name: name, Value: text, Secret: true})
		case s.WEPType != 2 && (len(text) == 5 || len(text) == 13):
			n.secret(name, key)
		default:
			n.fault("[wifi-security] wep-key%d: a key has 5 or 13 characters, or 10 or 26 hexadecimal digits", i)
		}
	}
	if s.WEPKey0.Reveal()+s.WEPKey1.Reveal()+s.WEPKey2.Reveal()+s.WEPKey3.Reveal() != "" {
		n.put("wep_tx_keyidx", strconv.FormatInt(s.WEPIndex, 10))
		if s.AuthAlg == "shared" {
			n.put("auth_alg", "SHARED")
		}
		n.note("[wifi-security] WEP protects nothing: anybody near can read it")
	}
}

// certificate puts a path, or the file that will hold what the profile holds itself.
func (n *plan) certificate(name string, c keyvalue.Cert) {
	text := string(c)
	encoded, held := strings.CutPrefix(text, "data:;base64,")
	switch {
	case text == "":
	case held:
		content, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(content) == 0 {
			n.fault("[802-1x] %s: the certificate is not in base64", name)
			return
		}
		path := fmt.Sprintf("%s/%x", n.certificates, sha256.Sum256(content))
		n.Settings = append(n.Settings, Setting{Name: name, Value: wpa.Hex(path), Content: content})
	case strings.HasPrefix(text, "/"):
		n.put(name, wpa.Hex(text))
	default:
		n.fault("[802-1x] %s: %q is no absolute path", name, text)
	}
}
