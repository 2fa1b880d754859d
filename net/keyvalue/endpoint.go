package keyvalue

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// ClientName reports whether a client of a tunnel may be called so: the name is part of a key, and of the name of the
// file of its profile. 32 letters, digits, - and _ at most.
func ClientName(name string) bool {
	return name != "" && len(name) <= 32 && !strings.ContainsFunc(name, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && r != '-' && r != '_'
	})
}

// Endpoint splits HOST or HOST:PORT, by which clients reach a device; usual is the port of the first form. What means
// something to the formats of profiles (wg-quick(8), openvpn(8)) is refused.
func Endpoint(text string, usual uint16) (host, port string, err error) {
	host, port, err = net.SplitHostPort(text)
	if err != nil {
		host, port = strings.Trim(text, "[]"), strconv.Itoa(int(usual))
	}
	number, err := strconv.ParseUint(port, 10, 16)
	bad := strings.ContainsFunc(host, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"'\#;=[]/`, r)
	})
	if host == "" || bad || err != nil || number == 0 {
		return "", "", fmt.Errorf("%q cannot be the endpoint: it is no HOST or HOST:PORT", text)
	}
	return host, port, nil
}
