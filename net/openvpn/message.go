package openvpn

import (
	"strings"
)

// Message is one line of the management socket.
type Message struct {
	Kind string // of what openvpn says by itself, as STATE or PASSWORD; SUCCESS, ERROR or empty: of an answer
	Text string
}

// ParseMessage reads a line.
func ParseMessage(line string) Message {
	line = strings.TrimRight(line, "\r\n")
	if rest, event := strings.CutPrefix(line, ">"); event {
		kind, text, _ := strings.Cut(rest, ":")
		return Message{kind, text}
	}
	for _, kind := range []string{"SUCCESS", "ERROR"} {
		if text, is := strings.CutPrefix(line, kind+":"); is {
			return Message{kind, strings.TrimSpace(text)}
		}
	}
	return Message{"", line}
}

// State is what openvpn says about a connection.
type State struct {
	Name   string // CONNECTING, WAIT, AUTH, GET_CONFIG, ASSIGN_IP, CONNECTED, RECONNECTING, EXITING…
	Reason string // of RECONNECTING and EXITING
	Server string // address and port of the server; empty: not known
}

// ParseState reads the text of a message STATE, or a line of the answer to the command state.
func ParseState(text string) (s State, ok bool) {
	f := strings.Split(text, ",")
	if len(f) < 3 || f[1] == "" {
		return State{}, false
	}
	s = State{Name: f[1], Reason: name(f[2])}
	if len(f) > 5 && addressOf(f[4]).IsValid() {
		s.Server = f[4] + " port " + name(f[5])
	}
	return s, true
}

// Asked reads the text of a message PASSWORD: whose password openvpn asks for (Auth, Private Key…), or whose
// was wrong.
func Asked(text string) (realm string, wrong, ok bool) {
	before, rest, quoted := strings.Cut(text, "'")
	realm, after, closed := strings.Cut(rest, "'")
	switch {
	case !quoted || !closed || realm == "":
		return "", false, false
	case strings.HasPrefix(before, "Verification Failed"):
		return realm, true, true
	case strings.HasPrefix(before, "Need"):
		return realm, false, strings.HasPrefix(after, " ")
	}
	return "", false, false
}

// Answer returns the command that gives openvpn a secret, or a name: verb is username or password. ok is false if the
// value cannot be sent: a line end would end the command.
func Answer(verb, realm, value string) (command string, ok bool) {
	if strings.ContainsAny(realm+value, "\r\n\x00") || len(value) > 4000 {
		return "", false
	}
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	return verb + ` "` + escape.Replace(realm) + `" "` + escape.Replace(value) + `"`, true
}

// Cause is why a connection does not come about, as far as a line of openvpn's log shows it. Of several, the one of
// the highest Rank says most.
type Cause struct {
	Rank int
	Text string
}

// sign is a text in the log and what it means. The part of the line behind the last byte of tail is kept, if it is set.
type sign struct {
	has, means, tail string
	rank             int
}

// What is wrong may be the clock of the device.
const (
	early = "the certificate of the server is not valid yet: is the clock of the device right? (osctl time)"
	late  = "the certificate of the server has expired, or the clock of the device is wrong (osctl time)"
)

// signs are read from the top; the first that fits counts.
func signs() []sign {
	return []sign{
		{"AUTH_FAILED", "the server has refused the user name or password", "", 9},
		{"error=certificate is not yet valid", early, "", 8},
		{"error=certificate has expired", late, "", 8},
		{"VERIFY ERROR", "the certificate of the server is not accepted: ", "error=", 7},
		{"VERIFY X509NAME ERROR", "the server has the certificate of somebody else: ", "ERROR: ", 8},
		{"VERIFY KU ERROR", "the certificate of the server is not one for servers", "", 8},
		{"VERIFY EKU ERROR", "the certificate of the server is not one for servers", "", 8},
		{"key usage extension", "the certificate of the server is not one for servers", "", 6},
		{"private key password verification failed", "the password of the private key is wrong", "", 9},
		{"packet HMAC authentication failed", "the key ta or tls-auth is not that of the server", "", 6},
		{"tls-crypt unwrap error", "the key tls-crypt is not that of the server", "", 6},
		{"cannot locate HMAC", "the server wants another key ta or tls-auth", "", 6},
		{"alert", "the server has ended the TLS handshake: ", "alert ", 6},
		{"unsupported protocol", "the server speaks no TLS version that is allowed", "", 6},
		{"no shared cipher", "the server has no cipher that is allowed", "", 6},
		{"failed to negotiate cipher", "the server has no cipher that is allowed", "", 6},
		{"Cannot resolve host address: ", "the name is not resolved: ", "address: ", 5},
		{"Connection refused", "nobody listens at the server's port: connection refused", "", 4},
		{"Network is unreachable", "there is no way to the server: network is unreachable", "", 4},
		{"No route to host", "there is no way to the server: no route to host", "", 4},
		{"Cannot open TUN/TAP dev", "the link cannot be created: ", "Cannot open ", 9},
		{"Cannot ioctl TUNSETIFF", "the link cannot be created: ", "TUNSETIFF ", 9},
		{"Cannot load", "a certificate or key cannot be used: ", "Cannot load ", 8},
		{"Options error: ", "openvpn refuses the configuration: ", "Options error: ", 8},
		{"TLS key negotiation failed to occur", "the server does not answer", "", 3},
		{"Inactivity timeout", "the server has fallen silent", "", 2},
		{"Connection reset", "the server has ended the connection", "", 2},
		{"TLS handshake failed", "the TLS handshake failed", "", 1},
	}
}

// CauseOf returns what a line of the log says about a connection that fails; Rank 0: nothing.
func CauseOf(line string) Cause {
	for _, s := range signs() {
		if !strings.Contains(line, s.has) {
			continue
		}
		text := s.means
		if s.tail != "" {
			_, rest, _ := strings.Cut(line, s.tail)
			text += cut(rest)
		}
		return Cause{s.rank, text}
	}
	return Cause{}
}

// cut keeps what a person needs of a text of the other end.
func cut(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	if i := strings.Index(text, ": "); i > 40 {
		text = text[:i]
	}
	return strings.ToValidUTF8(text[:min(len(text), 120)], "?")
}

// Log returns the text of a message LOG without time and flags, and whether it is about a fault.
func Log(text string) (line string, bad bool) {
	f := strings.SplitN(text, ",", 3)
	if len(f) < 3 {
		return text, false
	}
	return f[2], strings.ContainsAny(f[1], "FN")
}
