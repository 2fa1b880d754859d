// Package redsocks owns the two files with which an owner leads a device through a proxy server: redsocks.conf, in the
// syntax of the program redsocks (github.com/darkk/redsocks, parser.c), and no_proxy. It parses, and does nothing else.
// Values never appear in errors, because one of them is the password. Read first: Config, then Parse.
package redsocks

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"resinos/services/hostname"
)

// The names of the files, and how large they may be, in bytes.
const (
	Name    = "redsocks.conf"
	NoProxy = "no_proxy"
	MaxSize = 64 << 10
)

// Type is how a proxy server is spoken with.
type Type string

// The types.
const (
	SOCKS4  Type = "socks4"
	SOCKS5  Type = "socks5"
	Connect Type = "http-connect"
	Relay   Type = "http-relay" // for connections to port 80 only
)

// Server is a proxy server.
type Server struct {
	Type            Type
	Host            string // an address or a name
	Port            uint16
	Login, Password string
}

// String returns the server without its secrets, as in "socks5 10.0.0.1:1080".
func (s Server) String() string { return fmt.Sprintf("%s %s", s.Type, s.Address()) }

// Address is the server's host and port.
func (s Server) Address() string {
	if strings.Contains(s.Host, ":") {
		return fmt.Sprintf("[%s]:%d", s.Host, s.Port)
	}
	return fmt.Sprintf("%s:%d", s.Host, s.Port)
}

// Names says how name questions over UDP are answered.
type Names struct {
	Port   uint16         // on which the questions arrive
	Server netip.AddrPort // that is asked over TCP, through the proxy; not valid: each answer is "ask over TCP"
}

// Config is what redsocks.conf asks for.
type Config struct {
	Server     Server
	Port       uint16 // of the device itself, on which led connections arrive
	Containers bool   // the connections of containers are led through the proxy too
	Names      *Names // nil: name questions go their own way
	Warnings   []string
}

// The ports that redsocks and its example use.
const (
	defaultPort      = 12345
	defaultNamesPort = 5313
)

// effect is what a key does.
type effect int

const (
	none  effect = iota // it is about the program redsocks: files, users, buffers
	taken               // the section's function reads it
	off                 // it may only be switched off
)

// keys are the sections with their keys, as redsocks 0.5 has them.
func keys(section string) map[string]effect {
	switch section {
	case "base":
		return all(none, "log_debug log_info log daemon user group chroot redirector tcp_keepalive_time "+
			"tcp_keepalive_probes tcp_keepalive_intvl rlimit_nofile redsocks_conn_max connpres_idle_timeout "+
			"max_accept_backoff", nil)
	case "redsocks":
		return all(none, "listenq splice min_accept_backoff max_accept_backoff on_proxy_fail",
			all(off, "disclose_src parse_sni_host parse_http_host",
				all(taken, "local_ip local_port ip port type login password", nil)))
	case "dnsu2t":
		return all(none, "local_ip inflight_max remote_timeout", all(taken, "local_port remote_ip remote_port", nil))
	case "dnstc":
		return all(none, "local_ip", all(taken, "local_port", nil))
	case "redudp":
		return all(none, "local_ip local_port ip port login password dest_ip dest_port udp_timeout "+
			"udp_timeout_stream max_pktqueue type", nil)
	}
	return nil
}

func all(e effect, words string, into map[string]effect) map[string]effect {
	if into == nil {
		into = map[string]effect{}
	}
	for _, w := range strings.Fields(words) {
		into[w] = e
	}
	return into
}

// section is one section of the file.
type section struct {
	name   string
	line   int
	values map[string]token
}

// Parse reads redsocks.conf. The error names every fault with its line.
func Parse(text []byte) (Config, error) {
	list, err := sections(string(text))
	if err != nil {
		return Config{}, err
	}
	var c Config
	var faults []error
	seen := map[string]int{}
	for _, s := range list {
		if before := seen[s.name]; before != 0 {
			faults = append(faults, fault(s.line, "a second section %s; the first is on line %d", s.name, before))
			continue
		}
		seen[s.name] = s.line
		faults = append(faults, s.check()...)
		switch s.name {
		case "redsocks":
			faults = append(faults, c.redsocks(s)...)
		case "dnsu2t", "dnstc":
			if c.Names != nil {
				faults = append(faults, fault(s.line, "use one of dnsu2t and dnstc, not both"))
			}
			faults = append(faults, c.names(s)...)
		case "redudp":
			c.Warnings = append(c.Warnings, fmt.Sprintf(
				"line %d: section redudp has no effect: only TCP and name questions go through the proxy", s.line))
		}
	}
	if seen["redsocks"] == 0 {
		faults = append(faults, errors.New("there is no section redsocks"))
	}
	if c.Names != nil && c.Server.Type == Relay {
		faults = append(faults, errors.New("with the type http-relay there is no way for name questions: "+
			"remove dnsu2t and dnstc"))
	}
	if _, err := netip.ParseAddr(c.Server.Host); err != nil && c.Server.Host != "" && c.Names != nil {
		faults = append(faults, errors.New("with dnsu2t or dnstc, ip must be an address: "+
			"the name of the proxy could only be found through the proxy"))
	}
	return c, errors.Join(faults...)
}

// sections reads the syntax.
func sections(text string) ([]section, error) {
	list, err := tokens(text)
	if err != nil {
		return nil, err
	}
	var out []section
	for len(list) > 0 {
		name := list[0]
		if len(list) < 2 || !list[1].mark("{") || name.quoted {
			return nil, fault(name.line, "a section is written: NAME { KEY = VALUE; }")
		}
		s := section{name: name.text, line: name.line, values: map[string]token{}}
		if keys(s.name) == nil {
			return nil, fault(name.line, "there is no section of this name; "+
				"there are base, redsocks, dnsu2t, dnstc and redudp")
		}
		list = list[2:]
		for len(list) > 0 && !list[0].mark("}") {
			if len(list) < 4 || !list[1].mark("=") || !list[3].mark(";") || list[0].sign() || list[2].sign() {
				return nil, fault(list[0].line, "a setting is written: KEY = VALUE; "+
					"(a value with other characters than letters, digits, dots and hyphens needs quotes)")
			}
			key := list[0].text
			if _, known := keys(s.name)[key]; !known {
				return nil, fault(list[0].line, "section %s has no key %.40q", s.name, key)
			}
			if had, twice := s.values[key]; twice {
				return nil, fault(list[0].line, "%s was set on line %d already", key, had.line)
			}
			s.values[key] = token{line: list[0].line, text: list[2].text, quoted: list[2].quoted}
			list = list[4:]
		}
		if len(list) == 0 {
			return nil, fault(s.line, "section %s does not end: } is missing", s.name)
		}
		out, list = append(out, s), list[1:]
	}
	return out, nil
}

// check finds keys that may only be switched off, and are not.
func (s section) check() (faults []error) {
	for _, key := range s.sorted() {
		v := s.values[key]
		if keys(s.name)[key] == off && !slices.Contains([]string{"off", "no", "false"}, v.text) {
			faults = append(faults, fault(v.line, "%s: only false is possible", key))
		}
	}
	return faults
}

func (s section) sorted() []string {
	var out []string
	for key := range s.values {
		out = append(out, key)
	}
	slices.SortStableFunc(out, func(a, b string) int { return cmp.Compare(s.values[a].line, s.values[b].line) })
	return out
}

// port reads a port. Without the key it is standard; 0 says that the key must be there.
func (s section) port(key string, standard uint16) (uint16, error) {
	v, there := s.values[key]
	if !there && standard == 0 {
		return 0, fault(s.line, "section %s needs the key %s", s.name, key)
	}
	if !there {
		return standard, nil
	}
	n, err := strconv.ParseUint(v.text, 10, 16)
	if err != nil || n == 0 {
		return 0, fault(v.line, "%s must be a number from 1 to 65535", key)
	}
	return uint16(n), nil
}

// maxSecret is the longest login and password that SOCKS5 can carry, in bytes (RFC 1929).
const maxSecret = 255

func (c *Config) redsocks(s section) (faults []error) {
	note := func(err error) {
		if err != nil {
			faults = append(faults, err)
		}
	}
	var err error
	c.Port, err = s.port("local_port", defaultPort)
	note(err)
	c.Server.Port, err = s.port("port", 0)
	note(err)
	c.Containers, err = s.containers()
	note(err)
	host, there := s.values["ip"]
	if !there {
		note(fault(s.line, "section redsocks needs the key ip, the address of the proxy"))
	} else if !validHost(host.text) {
		note(fault(host.line, "ip must be an address or a host name"))
	}
	c.Server.Host = host.text
	kind, there := s.values["type"]
	c.Server.Type = Type(kind.text)
	if !there {
		note(fault(s.line, "section redsocks needs the key type"))
	} else if !slices.Contains([]Type{SOCKS4, SOCKS5, Connect, Relay}, c.Server.Type) {
		note(fault(kind.line, "type must be socks5, socks4, http-connect or http-relay"))
	}
	c.Server.Login, c.Server.Password = s.values["login"].text, s.values["password"].text
	for _, key := range []string{"login", "password"} {
		v := s.values[key]
		if len(v.text) > maxSecret || strings.ContainsRune(v.text, 0) {
			note(fault(v.line, "%s is longer than %d bytes", key, maxSecret))
		}
	}
	if web := c.Server.Type == Connect || c.Server.Type == Relay; web && strings.Contains(c.Server.Login, ":") {
		note(fault(s.values["login"].line, "login must not have a colon: HTTP ends it there"))
	}
	if c.Server.Password != "" && c.Server.Login == "" {
		note(fault(s.values["password"].line, "password needs login"))
	}
	return faults
}

// containers reads local_ip: redsocks that listens everywhere serves other machines too, here: containers.
func (s section) containers() (bool, error) {
	v, there := s.values["local_ip"]
	if !there {
		return false, nil
	}
	a, err := netip.ParseAddr(v.text)
	switch {
	case err == nil && a.IsLoopback():
		return false, nil
	case err == nil && a.IsUnspecified():
		return true, nil
	}
	return false, fault(v.line, "local_ip must be 127.0.0.1, for the device alone, "+
		"or 0.0.0.0, for the device and its containers")
}

func (c *Config) names(s section) (faults []error) {
	c.Names = &Names{}
	var err error
	if c.Names.Port, err = s.port("local_port", defaultNamesPort); err != nil {
		faults = append(faults, err)
	}
	if s.name == "dnstc" {
		return faults
	}
	port, err := s.port("remote_port", 53)
	if err != nil {
		faults = append(faults, err)
	}
	v, there := s.values["remote_ip"]
	a, err := netip.ParseAddr(v.text)
	switch {
	case !there:
		faults = append(faults, fault(s.line, "section dnsu2t needs the key remote_ip, the name server to ask"))
	case err != nil || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast():
		faults = append(faults, fault(v.line, "remote_ip must be the address of a name server"))
	}
	c.Names.Server = netip.AddrPortFrom(a, port)
	return faults
}

// validHost reports whether a text is an address of a host or a host name. It differs from hostname.ValidServer: there
// is no link that a zone could name, and a name of digits alone is an address that somebody mistyped.
func validHost(text string) bool {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() != "" {
		return false
	} else if err != nil && strings.Trim(text, ".0123456789") == "" {
		return false
	}
	return hostname.ValidServer(text)
}

// maxNetworks is how many networks no_proxy may name: each is one more rule for each new connection.
const maxNetworks = 256

// ParseNoProxy reads no_proxy: an address or a network on each line. Behind # is a comment. The error names every fault
// with its line.
func ParseNoProxy(text []byte) (networks []netip.Prefix, err error) {
	var faults []error
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		word, _, _ := strings.Cut(line, "#")
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		p, err := netip.ParsePrefix(word)
		if err != nil {
			var a netip.Addr
			a, err = netip.ParseAddr(word)
			p = netip.PrefixFrom(a, a.BitLen())
		}
		switch {
		case err != nil || p.Addr().Zone() != "":
			faults = append(faults, fault(n, "neither an address nor a network (192.168.7.0/24)"))
		case len(networks) == maxNetworks:
			return nil, fault(n, "more than %d networks", maxNetworks)
		default:
			networks = append(networks, p.Masked())
		}
	}
	return networks, errors.Join(faults...)
}
