// Package openvpn owns the configuration and the messages of openvpn: it turns a profile of NetworkManager or a file
// .ovpn into a configuration of ours, reads the lines of openvpn's management socket, and turns what a server pushes
// into the settings of a link.
//
// It is pure: it opens no socket and starts nothing (net/vpn does). No byte of an owner reaches openvpn unchecked: each
// directive is in the table of those that are allowed, each of its words is quoted, and keys and certificates are read
// and written again. Directives that run a program, or name a file that openvpn would read or write, are refused.
//
// Read first: For, then Parse.
package openvpn

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"resinos/net/keyvalue"
	"resinos/net/profile"
)

// The service-types of the profiles that have a driver: NetworkManager's for clients, and ours for the device as
// server.
const (
	Service = "org.freedesktop.NetworkManager.openvpn"
	Serving = "org.resinos.openvpn-server"
)

// Drives reports whether a profile is one for openvpn.
func Drives(p profile.Profile) bool {
	return p.Connection.Type == profile.TypeVPN && p.VPN != nil &&
		(p.VPN.ServiceType == Service || p.VPN.ServiceType == Serving)
}

// The directories of the two places where a profile of ours keeps what key files have no key for.
const (
	lines = "ovpn"  // among the secrets: the directives of a file .ovpn, as this package wrote them
	named = "named" // among the data: a server is given by name
	full  = "full"  // the same: the file leads everything into the tunnel
)

// Tunnel is what one profile asks of openvpn.
type Tunnel struct {
	File   string // of the profile
	Link   string // name of the link that openvpn creates
	Config keyvalue.Secret
	Mark   uint32 // of openvpn's own packets, and the table of a default route through the tunnel
	Named  bool   // a server is given by name, which has to be looked up outside of the tunnel
	Full   bool   // the file itself leads everything into the tunnel
	Port   uint16 // of UDP, at which the device serves; 0: it is a client

	User        string
	Password    keyvalue.Secret
	KeyPassword keyvalue.Secret
	Fault       string   // why the profile cannot be used; empty: it can
	Notes       []string // what it asks for and does not get
}

// LinkName returns the name of the link of a profile: the one that it asks for, or one that follows from the name of
// the file.
func LinkName(file string, p profile.Profile) string {
	if p.VPN != nil {
		if dev := p.VPN.Data["dev"]; dev != "tun" && dev != "tap" && keyvalue.LinkName(dev) {
			return dev
		}
	}
	return fmt.Sprintf("vpn%08x", hash(file))
}

func hash(text string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(text))
	return h.Sum32()
}

// firstMark is the first of the marks of tunnels; those of wireguard begin at 51820.
const firstMark = 56000

// For returns what a profile asks of openvpn. read returns the file of a certificate or key that the profile names.
func For(file string, p profile.Profile, read func(path string) ([]byte, error)) Tunnel {
	t := Tunnel{File: file, Link: LinkName(file, p), Mark: firstMark + hash(file)%4096}
	v := p.VPN
	if v == nil || v.ServiceType != Service {
		t.Fault = "[vpn] service-type: only " + Service + " has a driver"
		return t
	}
	t.User, t.Password, t.KeyPassword = v.Data["username"], v.Secrets["password"], v.Secrets["cert-pass"]
	w := &writer{}
	if text := v.Secrets[lines].Reveal(); text != "" {
		w.text.WriteString(text)
		t.Named, t.Full = v.Data[named] != "", v.Data[full] != ""
	} else {
		n := &keys{writer: w, data: v.Data, read: read}
		n.all()
		t.Named, t.Notes = n.named, n.notes
	}
	w.ours(t)
	if err := errors.Join(w.faults...); err != nil {
		t.Fault = strings.ReplaceAll(err.Error(), "\n", "; ")
		return t
	}
	t.Config = keyvalue.NewSecret(w.text.String())
	return t
}

// writer collects the lines of a configuration.
type writer struct {
	text   strings.Builder
	faults []error
}

func (w *writer) fault(format string, args ...any) {
	w.faults = append(w.faults, fmt.Errorf(format, args...))
}

// longestLine is what openvpn takes (OPTION_LINE_SIZE is 256).
const longestLine = 250

// put writes a directive. Its words have been judged by the table; they are quoted, so that none ends the line.
func (w *writer) put(words ...string) {
	var line strings.Builder
	for i, word := range words {
		if i > 0 {
			line.WriteByte(' ')
		}
		line.WriteString(quote(word))
	}
	if line.Len() > longestLine {
		w.fault("%s: longer than the %d bytes of a line that openvpn takes", words[0], longestLine)
		return
	}
	w.text.WriteString(line.String() + "\n")
}

// block writes content within the configuration.
func (w *writer) block(name, content string) {
	fmt.Fprintf(&w.text, "<%s>\n%s</%s>\n", name, content, name)
}

// quote returns a word as configurations and the management socket take it.
func quote(word string) string {
	if consists(word, longestLine, "-_.:/,+@=") {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}

// ours writes what is the same for every tunnel: openvpn changes no address, route or name server, runs nothing, and
// asks for secrets through its management socket only.
func (w *writer) ours(t Tunnel) {
	w.put("dev", t.Link)
	for _, line := range []string{"persist-key", "persist-tun", "ifconfig-noexec", "route-noexec", "disable-dco",
		"resolv-retry infinite", "connect-retry 2 60", "auth-retry none", "script-security 0", "verb 3",
		"suppress-timestamps", "management-hold", "management-query-passwords", "management-up-down"} {
		w.text.WriteString(line + "\n")
	}
	w.put("mark", strconv.FormatUint(uint64(t.Mark), 10))
}

// Common returns what is the same for clients and servers.
func (t Tunnel) Common() string {
	w := &writer{}
	w.ours(t)
	return w.text.String()
}

// Complete adds the path of the management socket, which openvpn creates.
func (t Tunnel) Complete(socket string) string {
	w := &writer{}
	w.put("management", socket, "unix")
	return t.Config.Reveal() + w.text.String()
}

// String shows the configuration without keys, for people who ask for a plan.
func (t Tunnel) String() string {
	var out []string
	hidden := ""
	for line := range strings.Lines(t.Config.Reveal()) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case hidden != "" && line == "</"+hidden+">":
			hidden = ""
		case hidden != "":
		case strings.HasPrefix(line, "<"):
			hidden = strings.Trim(line, "<>")
			out = append(out, "<"+hidden+"> (hidden)")
		default:
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// keys turns the keys of [vpn] into directives.
type keys struct {
	*writer
	data  map[string]string
	read  func(string) ([]byte, error)
	named bool
	notes []string
}

// add writes a directive if it is one of the allowed ones with these words.
func (k *keys) add(key string, words ...string) {
	if err := judge(words[0], words[1:]); err != nil {
		k.fault("[vpn] %s: %w", key, err)
		return
	}
	k.put(words...)
}

// all writes everything that the profile says.
func (k *keys) all() {
	k.kind()
	k.remotes()
	k.device()
	rules := ofKeys()
	for _, name := range slices.Sorted(maps.Keys(k.data)) {
		value := k.data[name]
		rule, known := rules[name]
		switch {
		case !known:
			k.notes = append(k.notes, "[vpn] "+name+": is not supported and has no effect")
		case rule.flag && value == "yes":
			k.add(name, cmp.Or(rule.directive, name))
		case rule.flag, rule.elsewhere, value == "":
		default:
			k.add(name, append([]string{cmp.Or(rule.directive, name)}, strings.Fields(value)...)...)
		}
	}
	k.peer()
}

// kind writes what follows from the kind of the connection: how the two ends know each other.
func (k *keys) kind() {
	kind := cmp.Or(k.data["connection-type"], "tls")
	if kind == "static-key" {
		k.file("static-key", "secret", staticKey)
		k.direction("static-key-direction")
		k.put("allow-deprecated-insecure-static-crypto")
		if k.data["local-ip"] == "" || k.data["remote-ip"] == "" {
			k.fault("[vpn] local-ip or remote-ip is missing: nobody else gives the tunnel its addresses")
			return
		}
		k.add("local-ip", "ifconfig", k.data["local-ip"], k.data["remote-ip"])
		return
	}
	if !slices.Contains([]string{"tls", "password", "password-tls"}, kind) {
		k.fault("[vpn] connection-type: none of tls, password, password-tls, static-key")
		return
	}
	k.put("client")
	k.file("ca", "ca", pemOf)
	if kind != "password" {
		k.file("cert", "cert", pemOf)
		k.file("key", "key", pemOf)
	}
	if kind != "tls" {
		k.put("auth-user-pass")
	}
	if k.data["ta"] != "" {
		k.file("ta", "tls-auth", staticKey)
		k.direction("ta-dir")
	}
	if k.data["tls-crypt"] != "" {
		k.file("tls-crypt", "tls-crypt", staticKey)
	}
	if k.data["tls-crypt-v2"] != "" {
		k.file("tls-crypt-v2", "tls-crypt-v2", pemOf)
	}
	if k.data["extra-certs"] != "" {
		k.file("extra-certs", "extra-certs", pemOf)
	}
}

func (k *keys) direction(key string) {
	if d := k.data[key]; d != "" {
		k.add(key, "key-direction", d)
	}
}

// file writes the content of a file that the profile names.
func (k *keys) file(key, directive string, form func([]byte) (string, error)) {
	path := k.data[key]
	if path == "" {
		k.fault("[vpn] %s is missing", key)
		return
	}
	text, err := k.read(path)
	if err != nil {
		k.fault("[vpn] %s: %w", key, err)
		return
	}
	content, err := form(text)
	if err != nil {
		k.fault("[vpn] %s: %s: %w", key, path, err)
		return
	}
	k.block(directive, content)
}

// remotes writes the servers, each HOST[:PORT[:PROTOCOL]], an address of IPv6 in brackets.
func (k *keys) remotes() {
	protocol := "udp"
	if k.data["proto-tcp"] == "yes" || k.data["proto"] == "tcp" {
		protocol = "tcp"
	}
	list := strings.FieldsFunc(k.data["remote"], func(r rune) bool { return r == ' ' || r == ',' || r == '\t' })
	if len(list) == 0 {
		k.fault("[vpn] remote is missing")
	}
	for _, one := range list {
		host, rest := one, ""
		if inside, after, found := strings.Cut(strings.TrimPrefix(one, "["), "]"); found && one[0] == '[' {
			host, rest = inside, strings.TrimPrefix(after, ":")
		} else if _, err := netip.ParseAddr(one); err != nil {
			host, rest, _ = strings.Cut(one, ":")
		}
		port, proto, _ := strings.Cut(rest, ":")
		k.add("remote", "remote", host, cmp.Or(port, k.data["port"], "1194"), cmp.Or(proto, protocol))
		k.named = k.named || isName(host)
	}
}

// isName reports whether a server has to be looked up.
func isName(host string) bool {
	_, err := netip.ParseAddr(host)
	return err != nil
}

// device writes of which type the link is.
func (k *keys) device() {
	kind := "tun"
	if k.data["tap-dev"] == "yes" || k.data["dev-type"] == "tap" || k.data["dev"] == "tap" {
		kind = "tap"
	}
	k.put("dev-type", kind)
	k.put("nobind")
}

// peer writes how the server proves who it is.
func (k *keys) peer() {
	if text := k.data["verify-x509-name"]; text != "" {
		kind, name, found := strings.Cut(text, ":")
		if !found {
			kind, name = "subject", text
		}
		k.add("verify-x509-name", "verify-x509-name", name, kind)
	}
}
