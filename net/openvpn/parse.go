package openvpn

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"resinos/net/keyvalue"
	"resinos/net/profile"
)

// Suffix is how the names of files end that Parse reads.
const Suffix = ".ovpn"

// blocks are what a file may hold within itself, and how it is read.
func blocks(name string) (form func([]byte) (string, error), known bool) {
	switch name {
	case "ca", "cert", "key", "extra-certs", "crl-verify", "tls-crypt-v2":
		return pemOf, true
	case "tls-auth", "tls-crypt", "secret":
		return staticKey, true
	case "peer-fingerprint":
		return fingerprints, true
	}
	return nil, false
}

// directive is one line of a file.
type directive struct {
	line  int
	words []string
	block string // the content, if the directive stands in <>
	open  bool   // it stands in <>
}

// reader reads one file into a profile.
type reader struct {
	writer
	file     string
	profile  profile.Profile
	warnings []profile.Warning
	named    bool
	full     bool
	remotes  int
	proto    string // of servers that name none
	port     string
	device   string
}

// Parse reads a file .ovpn that is called file into a profile of the kind that For takes. The errors are all that are
// wrong with it, each with file and line; a warning is a directive without an effect here.
func Parse(file string, text []byte) (profile.Profile, []profile.Warning, error) {
	list, err := scan(text)
	if err != nil {
		return profile.Profile{}, nil, fmt.Errorf("%s:%w", file, err)
	}
	r := &reader{file: file, proto: "udp", port: "1194"}
	v := &profile.VPN{ServiceType: Service, Data: map[string]string{}, Secrets: map[string]keyvalue.Secret{}}
	r.profile = profile.Profile{VPN: v, IPv4: profile.NewSection[profile.IP](), IPv6: profile.NewSection[profile.IP]()}
	r.profile.Connection = *profile.NewSection[profile.Connection]()
	r.profile.Connection.ID, r.profile.Connection.Type = strings.TrimSuffix(file, Suffix), profile.TypeVPN
	r.profile.IPv4.Method, r.profile.IPv6.Method = profile.Auto, profile.Auto
	for _, d := range list { // what holds for all servers may stand behind them
		switch {
		case d.words[0] == "proto" && len(d.words) == 2:
			r.proto = d.words[1]
		case (d.words[0] == "port" || d.words[0] == "rport") && len(d.words) == 2:
			r.port = d.words[1]
		}
	}
	for _, d := range list {
		if err := r.take(d); err != nil {
			r.fault("%s:%d: %s: %w", file, d.line, name(d.words[0]), err)
		}
	}
	if r.remotes == 0 && len(r.faults) == 0 {
		r.fault("%s: remote is missing: no line names a server", file)
	}
	if r.device == "" {
		r.put("dev-type", "tun")
	}
	r.put("nobind")
	if err := errors.Join(r.faults...); err != nil {
		return profile.Profile{}, r.warnings, err
	}
	v.Secrets[lines] = keyvalue.NewSecret(r.text.String())
	if r.named {
		v.Data[named] = "yes"
	}
	if r.full {
		v.Data[full] = "yes"
	}
	return r.profile, r.warnings, nil
}

func (r *reader) warn(d directive, text string) {
	w := profile.Warning{File: r.file, Section: "openvpn", Key: name(d.words[0]), Line: d.line, Text: text}
	r.warnings = append(r.warnings, w)
}

// take takes one directive over.
func (r *reader) take(d directive) error {
	what, words := d.words[0], d.words[1:]
	if what == "setenv" && len(words) > 1 && words[0] == "opt" { // a directive that other versions may lack
		what, words = words[1], words[2:]
		if _, known := allowed()[what]; !known && refused()[what] == "" {
			return nil
		}
	}
	switch {
	case d.open:
		return r.inside(d)
	case settled()[what]:
		return nil
	case what == "setenv" && len(words) > 0 && (strings.HasPrefix(words[0], "UV_") || words[0] == "CLIENT_CERT" ||
		words[0] == "PUSH_PEER_INFO" || strings.HasPrefix(words[0], "FORWARD") || strings.HasPrefix(words[0], "IV_")):
		r.warn(d, "has no effect")
		return nil
	case what == "dev":
		return r.dev(words)
	case what == "proto", what == "port", what == "rport", what == "nobind":
		return judge(what, words)
	case what == "auth-user-pass" && len(words) > 0:
		return errors.New("it names a file; put its two lines here, between <auth-user-pass> and </auth-user-pass>")
	}
	if form, inline := blocks(what); inline && what != "peer-fingerprint" && form != nil {
		return fmt.Errorf("it names a file; put its content here, between <%s> and </%s>", what, what)
	}
	if err := judge(what, words); err != nil {
		return err
	}
	switch what {
	case "remote":
		return r.remote(words)
	case "redirect-gateway":
		r.full = true
	case "dev-type":
		r.device = words[0]
	case "secret":
		r.put("allow-deprecated-insecure-static-crypto")
	}
	r.put(append([]string{what}, words...)...)
	return nil
}

// remote writes a server with its port and protocol.
func (r *reader) remote(words []string) error {
	full := append(slices.Clone(words), []string{"", r.port, r.proto}[len(words):]...)
	if err := judge("remote", full); err != nil {
		return err
	}
	r.put(append([]string{"remote"}, full...)...)
	r.remotes++
	r.named = r.named || isName(words[0])
	return nil
}

// dev takes the name or type of the link over.
func (r *reader) dev(words []string) error {
	if len(words) != 1 {
		return errors.New("needs tun, tap, or the name of a link")
	}
	kind := words[0]
	switch {
	case strings.HasPrefix(kind, "tun"):
		r.device = "tun"
	case strings.HasPrefix(kind, "tap"):
		r.device = "tap"
	case !keyvalue.LinkName(kind):
		return errors.New("no name of a link")
	}
	if keyvalue.LinkName(kind) && kind != "tun" && kind != "tap" {
		r.profile.VPN.Data["dev"] = kind
	}
	if r.device != "" {
		r.put("dev-type", r.device)
	}
	return nil
}

// inside takes what stands in <> over.
func (r *reader) inside(d directive) error {
	what := d.words[0]
	switch what {
	case "auth-user-pass":
		user, rest, _ := strings.Cut(d.block, "\n")
		password, _, _ := strings.Cut(rest, "\n")
		r.profile.VPN.Data["username"] = strings.TrimSuffix(user, "\r")
		r.profile.VPN.Secrets["password"] = keyvalue.NewSecret(strings.TrimSuffix(password, "\r"))
		r.put("auth-user-pass")
		return nil
	case "connection":
		return r.connection(d)
	}
	form, known := blocks(what)
	if !known {
		if why := refused()[what]; why != "" {
			return errors.New(why + "; remove it")
		}
		return errors.New("the device knows no such part; remove it")
	}
	content, err := form([]byte(d.block))
	if err != nil {
		return err
	}
	if what == "secret" {
		r.put("allow-deprecated-insecure-static-crypto")
	}
	r.block(what, content)
	return nil
}

// connection takes one server of several over.
func (r *reader) connection(d directive) error {
	list, err := scan([]byte(d.block))
	if err != nil {
		return err
	}
	inner := reader{file: r.file, proto: r.proto, port: r.port}
	var remote []string
	for _, one := range list {
		switch one.words[0] {
		case "remote":
			remote = one.words[1:]
		case "proto", "port", "rport":
			if err := judge(one.words[0], one.words[1:]); err != nil {
				return err
			}
			if one.words[0] == "proto" {
				inner.proto = one.words[1]
			} else {
				inner.port = one.words[1]
			}
		default:
			if !settled()[one.words[0]] && one.words[0] != "nobind" {
				const only = "line %d of it, %s: only remote, port and proto may stand there"
				return fmt.Errorf(only, one.line, name(one.words[0]))
			}
		}
	}
	if err := judge("remote", remote); err != nil {
		return err
	}
	err = inner.remote(remote)
	r.text.WriteString(inner.text.String())
	r.remotes, r.named = r.remotes+1, r.named || inner.named
	return err
}

// largest is how many lines a file may have.
const largest = 5000

// scan splits a file into directives as openvpn does. The error begins with the number of the line.
func scan(text []byte) (out []directive, err error) {
	var in *directive
	var content strings.Builder
	number := 0
	text = []byte(strings.TrimPrefix(string(text), "\ufeff"))
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimRight(line, "\r\n")
		trimmed := strings.TrimSpace(line)
		switch {
		case number > largest:
			return nil, fmt.Errorf("%d: the file has more lines than the %d that are read", number, largest)
		case in != nil && trimmed == "</"+in.words[0]+">":
			in.block = content.String()
			out = append(out, *in)
			in = nil
			continue
		case in != nil:
			content.WriteString(line + "\n")
			continue
		case len(trimmed) > 2 && trimmed[0] == '<' && trimmed[len(trimmed)-1] == '>' && trimmed[1] != '/':
			in = &directive{line: number, words: []string{trimmed[1 : len(trimmed)-1]}, open: true}
			content.Reset()
			continue
		}
		words, err := split(line)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", number, err)
		}
		if len(words) > 0 {
			words[0] = strings.TrimPrefix(words[0], "--")
			out = append(out, directive{line: number, words: words})
		}
	}
	if in != nil {
		return nil, fmt.Errorf("%d: <%s> has no end </%s>", in.line, name(in.words[0]), name(in.words[0]))
	}
	return out, nil
}

// split returns the words of a line: spaces separate them, quotes and a backslash keep them together, and # or ; at the
// begin of a word ends the line (parse_line of openvpn's options.c).
func split(line string) (words []string, err error) {
	var current strings.Builder
	inWord, escaped := false, false
	quoted := rune(0)
	for _, r := range line {
		space := r == ' ' || r == '\t' || r == '\v' || r == '\f'
		switch {
		case escaped:
			current.WriteRune(r)
			escaped = false
		case r == '\\' && quoted != '\'':
			escaped, inWord = true, true
		case quoted != 0 && r == quoted:
			quoted = 0
		case quoted != 0:
			current.WriteRune(r)
		case r == '"' || r == '\'':
			quoted, inWord = r, true
		case space && inWord:
			words = append(words, current.String())
			current.Reset()
			inWord = false
		case space:
		case (r == '#' || r == ';') && !inWord:
			return words, nil
		default:
			current.WriteRune(r)
			inWord = true
		}
	}
	if quoted != 0 || escaped {
		return nil, errors.New("a quote or backslash has no end")
	}
	if inWord {
		words = append(words, current.String())
	}
	return words, nil
}
