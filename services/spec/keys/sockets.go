package keys

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"resinos/services/spec"
)

// maxUnixPath is what sun_path holds besides its NUL (unix(7)).
const maxUnixPath = 107

// maxSockets bounds the descriptors that PID 1 holds for one service.
const maxSockets = 64

func sockets(v any, to *[]spec.Socket) []Fault {
	out, faults := convert(v, parseSocket)
	seen := map[string]bool{}
	for _, s := range out {
		s.Name = ""
		if seen[s.String()] {
			faults = append(faults, Fault{Text: s.String() + " is listed twice", Hint: "remove one"})
		}
		seen[s.String()] = true
	}
	if len(out) > maxSockets {
		faults = append(faults, Fault{Text: fmt.Sprintf("%d sockets are too many", len(out)),
			Hint: fmt.Sprintf("at most %d", maxSockets)})
	}
	*to = out
	return faults
}

// parseSocket reads [NAME=]NETWORK:ADDRESS.
func parseSocket(s string) (spec.Socket, *Fault) {
	var sock spec.Socket
	rest := s
	if name, after, found := strings.Cut(s, "="); found && !strings.Contains(name, ":") {
		if !validSocketName(name) {
			return sock, &Fault{Text: fmt.Sprintf("%q is no name of a socket", name),
				Hint: "letters, digits, - _ and ., at most 64"}
		}
		sock.Name, rest = name, after
	}
	network, address, _ := strings.Cut(rest, ":")
	sock.Network, sock.Address = network, address
	switch network {
	case "tcp", "udp":
		return sock, checkPort(address)
	case "unix", "unixgram", "unixpacket":
		f := cleanSocketPath(&sock.Address)
		return sock, f
	case "netlink":
		return sock, checkFamily(address)
	}
	return sock, &Fault{Text: fmt.Sprintf("%q is no socket", s),
		Hint: `write "tcp::80", "udp:127.0.0.1:53", "unix:/run/x.sock", unixgram:, unixpacket: or netlink:`}
}

// checkFamily takes the one netlink family whose messages the kernel sends unasked to start a service.
func checkFamily(name string) *Fault {
	if name != "kobject-uevent" {
		return &Fault{Text: fmt.Sprintf("%q is no netlink family to listen on", name),
			Hint: "write netlink:kobject-uevent"}
	}
	return nil
}

func validSocketName(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return name != "" && len(name) <= 64
}

// checkPort takes HOST:PORT with an empty HOST, an address or [an IPv6 address]. Names are refused:
// PID 1 asks no server for them.
func checkPort(address string) *Fault {
	at := strings.LastIndexByte(address, ':')
	if at < 0 {
		return &Fault{Text: fmt.Sprintf("%q has no port", address), Hint: `write HOST:PORT, or :PORT for all addresses`}
	}
	host, port := address[:at], address[at+1:]
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return &Fault{Text: fmt.Sprintf("%q is no port", port), Hint: "a number from 1 to 65535"}
	}
	if host == "" {
		return nil
	}
	bare, six := strings.CutPrefix(host, "[")
	if six {
		bare, six = strings.CutSuffix(bare, "]")
	}
	ip, err := netip.ParseAddr(bare)
	if err != nil || six != ip.Is6() || strings.ContainsAny(ip.Zone(), "[]: \t\r\n\x00") {
		return &Fault{Text: fmt.Sprintf("%q is no address", host),
			Hint: "an IPv4 address, [an IPv6 address], or nothing for all"}
	}
	return nil
}

func cleanSocketPath(p *string) *Fault {
	var clean string
	if f := directory(*p, &clean); f != nil {
		return &f[0]
	}
	if clean == "/" || len(clean) > maxUnixPath || strings.HasSuffix(*p, "/") {
		return &Fault{Text: fmt.Sprintf("%q is no path of a socket", *p),
			Hint: fmt.Sprintf("a file of at most %d bytes, as /run/x.sock", maxUnixPath)}
	}
	*p = clean
	return nil
}

func mode(v any, to *uint32) []Fault {
	const hint = `write "0600" or "0660"`
	s, ok := v.(string)
	if !ok {
		return wrong(`the mode in quotes, "0600"`, v)
	}
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n == 0 || n > 0o777 {
		return fault(fmt.Sprintf("%q is no mode", s), hint)
	}
	*to = uint32(n)
	return nil
}

func readyPort(v any, to *string) []Fault {
	const hint = `write "tcp:127.0.0.1:80" or "unix:/run/x.sock"`
	s, ok := v.(string)
	if !ok {
		return wrong(hint[len("write "):], v)
	}
	if s == "" {
		*to = ""
		return nil
	}
	sock, f := parseSocket(s)
	switch {
	case f != nil:
		return []Fault{*f}
	case sock.Name != "" || !sock.Stream():
		return fault(fmt.Sprintf("%q takes no connection", s), hint)
	}
	*to = sock.String()
	return nil
}
