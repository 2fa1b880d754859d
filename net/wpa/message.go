package wpa

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
)

// Event is what the supplicant says without being asked.
type Event struct {
	Link string // the radio that it is about; empty: the supplicant itself
	Name string // the first word, as CTRL-EVENT-CONNECTED
	Text string // the rest
}

// ParseEvent reads a message, and reports false if it is a reply. An event begins with "<LEVEL>", behind the name of
// its radio: "IFNAME=wlan0 <3>CTRL-EVENT-SCAN-RESULTS ".
func ParseEvent(message []byte) (Event, bool) {
	text := string(message)
	var e Event
	if rest, is := strings.CutPrefix(text, "IFNAME="); is {
		name, after, found := strings.Cut(rest, " ")
		if !found || !strings.HasPrefix(after, "<") {
			return Event{}, false
		}
		e.Link, text = name, after
	}
	rest, is := strings.CutPrefix(text, "<")
	level, rest, closed := strings.Cut(rest, ">")
	if n, err := strconv.Atoi(level); !is || !closed || err != nil || n < 0 || n > 9 {
		return Event{}, false
	}
	e.Name, e.Text, _ = strings.Cut(strings.TrimSpace(rest), " ")
	return e, true
}

// Value returns the value of KEY=VALUE in the text of an event; empty: it is not there. A value in quotes ends with the
// last quote before a space and the next key, or with the text: names of networks may hold quotes and spaces.
func (e Event) Value(key string) string {
	at := strings.Index(" "+e.Text, " "+key+"=")
	if at < 0 {
		return ""
	}
	value := e.Text[at+len(key)+1:]
	for _, quote := range []string{`"`, "'"} {
		if rest, quoted := strings.CutPrefix(value, quote); quoted {
			if end := strings.LastIndex(rest, quote); end >= 0 {
				return string(Unescape(rest[:end]))
			}
			return ""
		}
	}
	value, _, _ = strings.Cut(value, " ")
	return strings.Trim(value, "[]")
}

// Pairs reads a reply that has lines of KEY=VALUE. Of a key that comes twice the last value counts.
func Pairs(reply string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(reply) {
		if key, value, is := strings.Cut(strings.TrimRight(line, "\r\n"), "="); is && key != "" {
			out[key] = value
		}
	}
	return out
}

// BSS is an access point as a scan has found it.
type BSS struct {
	ID        int    `json:"-"` // the supplicant's number
	Address   string `json:"bssid"`
	SSID      string `json:"ssid"` // bytes, which need not be text; empty: hidden
	Frequency int    `json:"mhz"`
	Signal    int    `json:"dbm"`
	Flags     string `json:"flags"` // as [WPA2-PSK-CCMP][ESS]
}

// ParseBSS reads the reply to BSS. It fails if there is no such access point.
func ParseBSS(reply string) (BSS, bool) {
	p := Pairs(reply)
	b := BSS{Address: p["bssid"], Flags: p["flags"], SSID: string(Unescape(p["ssid"]))}
	var errs [3]error
	b.ID, errs[0] = strconv.Atoi(p["id"])
	b.Frequency, errs[1] = strconv.Atoi(p["freq"])
	b.Signal, errs[2] = strconv.Atoi(p["level"])
	b.SSID = strings.TrimRight(b.SSID, "\x00") // some access points hide their name so
	if errors.Join(errs[:]...) != nil || len(b.Address) != len("02:00:00:00:00:00") || len(b.SSID) > 32 {
		return BSS{}, false
	}
	return b, true
}

// Security says in a word how an access point wants to be joined: open, wep, psk, sae, owe or eap.
func (b BSS) Security() string {
	switch f := b.Flags; {
	case strings.Contains(f, "EAP"):
		return "eap"
	case strings.Contains(f, "PSK"):
		return "psk"
	case strings.Contains(f, "SAE"):
		return "sae"
	case strings.Contains(f, "OWE]"), strings.Contains(f, "OWE-"):
		return "owe"
	case strings.Contains(f, "WEP"):
		return "wep"
	}
	return "open"
}

// NetworkIDs reads the reply to LIST_NETWORKS.
func NetworkIDs(reply string) []string {
	var out []string
	for line := range strings.Lines(reply) {
		id, _, found := strings.Cut(line, "\t")
		if _, err := strconv.ParseUint(id, 10, 31); found && err == nil {
			out = append(out, id)
		}
	}
	return out
}

// Unescape turns the supplicant's way of printing bytes back into these: \xNN, \n, \r, \t, \e, \" and \\. What is not
// one of these stands for itself.
func Unescape(text string) []byte {
	var out []byte
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			out = append(out, text[i])
			continue
		}
		i++
		if at := strings.IndexByte(`nrte"\`, text[i]); at >= 0 {
			out = append(out, "\n\r\t\x1b\"\\"[at])
			continue
		}
		digits := text[min(i+1, len(text)):min(i+3, len(text))]
		if b, err := hex.DecodeString(digits); text[i] == 'x' && err == nil && len(b) == 1 {
			out = append(out, b[0])
			i += 2
			continue
		}
		out = append(out, '\\', text[i])
	}
	return out
}

// Hex writes the value of a setting that may be any bytes.
func Hex(value string) string { return hex.EncodeToString([]byte(value)) }

// ErrQuote says that a value cannot be written in quotes.
var ErrQuote = errors.New("it has a control character or is empty")

// Quote writes the value of a setting that the supplicant takes only as text. It ends at the last quote of the command,
// so quotes within it need no escape.
func Quote(value string) (string, error) {
	if value == "" || bytes.ContainsFunc([]byte(value), func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", ErrQuote
	}
	return `"` + value + `"`, nil
}
