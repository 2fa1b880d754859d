// Package vpnserver owns the settings of the device as a server of openvpn: its key file, the configuration of openvpn
// that follows from it, and the profile .ovpn of each client. Server and clients know each other by their certificates
// alone: nobody signs any, and a client that is not in the file any more does not get in.
//
// It is pure: keys and certificates are made elsewhere (net/vpnclients). Read first: Server.
package vpnserver

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"resinos/net/keyfile"
	"resinos/net/keyvalue"
	"resinos/net/openvpn"
	"resinos/net/profile"
)

// File is the name of the key file that osctl writes.
const File = "vpn-server.nmconnection"

// Server is what the key file says.
type Server struct {
	Port        uint16       // of UDP
	Network     netip.Prefix // of IPv4; the device has its first address
	Certificate []byte       // DER
	Key         keyvalue.Secret
	Clients     map[string]string // by name: the digest of the certificate, as in AB:CD
}

// The usual settings.
const (
	usualPort    = 1194
	usualNetwork = "10.8.0.0/24"
	clientPrefix = "client-"
)

// New returns a server without clients that has this certificate and key, both DER.
func New(certificate, key []byte) Server {
	return Server{Port: usualPort, Network: netip.MustParsePrefix(usualNetwork), Certificate: certificate,
		Key: keyvalue.NewSecret(base64.StdEncoding.EncodeToString(key)), Clients: map[string]string{}}
}

// Read reads a profile of the service-type openvpn.Serving.
func Read(p profile.Profile) (Server, error) {
	if p.VPN == nil || p.VPN.ServiceType != openvpn.Serving {
		return Server{}, errors.New("[vpn] service-type: not " + openvpn.Serving)
	}
	s := Server{Clients: map[string]string{}, Key: p.VPN.Secrets["key"]}
	port, err := strconv.ParseUint(p.VPN.Data["port"], 10, 16)
	if err != nil || port == 0 {
		return Server{}, errors.New("[vpn] port: not a number from 1 to 65535")
	}
	s.Port = uint16(port)
	s.Network, err = netip.ParsePrefix(p.VPN.Data["network"])
	if err != nil || !s.Network.Addr().Is4() || s.Network.Bits() < 8 || s.Network.Bits() > 29 {
		return Server{}, errors.New("[vpn] network: not a network of IPv4 with 8 to 29 bits, as in " + usualNetwork)
	}
	s.Network = s.Network.Masked()
	s.Certificate, err = base64.StdEncoding.DecodeString(p.VPN.Data["certificate"])
	if err != nil || len(s.Certificate) == 0 {
		return Server{}, errors.New("[vpn] certificate: not a certificate in base64")
	}
	if key, err := base64.StdEncoding.DecodeString(s.Key.Reveal()); err != nil || len(key) == 0 {
		return Server{}, errors.New("[vpn-secrets] key: not a key in base64")
	}
	for key, digest := range p.VPN.Data {
		name, is := strings.CutPrefix(key, clientPrefix)
		if !is {
			continue
		}
		sum, err := hex.DecodeString(strings.ReplaceAll(digest, ":", ""))
		if err != nil || len(sum) != 32 || !keyvalue.ClientName(name) {
			return Server{}, fmt.Errorf("[vpn] %s%s: not the SHA-256 digest of a certificate", clientPrefix, name)
		}
		s.Clients[name] = openvpn.Fingerprint(sum)
	}
	return s, nil
}

// Port returns the port of UDP at which a profile has the device serve; 0: none.
func Port(p profile.Profile) uint16 {
	s, err := Read(p)
	if err != nil {
		return 0
	}
	return s.Port
}

// Text returns the key file.
func (s Server) Text() string {
	put := func(g *keyfile.Group, name, value string) {
		g.Keys = append(g.Keys, keyfile.Key{Name: name, Value: keyfile.Quote(value)})
	}
	connection, vpn := keyfile.Group{Name: "connection"}, keyfile.Group{Name: "vpn"}
	secrets, four, six := keyfile.Group{Name: "vpn-secrets"}, keyfile.Group{Name: "ipv4"}, keyfile.Group{Name: "ipv6"}
	put(&connection, "id", "vpn-server")
	put(&connection, "type", "vpn")
	put(&vpn, "service-type", openvpn.Serving)
	put(&vpn, "port", strconv.Itoa(int(s.Port)))
	put(&vpn, "network", s.Network.String())
	put(&vpn, "certificate", base64.StdEncoding.EncodeToString(s.Certificate))
	for _, name := range slices.Sorted(maps.Keys(s.Clients)) {
		put(&vpn, clientPrefix+name, s.Clients[name])
	}
	put(&secrets, "key", s.Key.Reveal())
	put(&four, "method", "auto")
	put(&four, "never-default", "true")
	put(&six, "method", "ignore")
	return keyfile.File{Groups: []keyfile.Group{connection, vpn, secrets, four, six}}.String()
}

// mostClients is how many clients a server may have.
const mostClients = 200

// Add adds a client that has this certificate and key, both DER, and returns its profile. endpoint is HOST or
// HOST:PORT.
func (s *Server) Add(name, endpoint string, cert, key []byte) (ovpn string, err error) {
	switch {
	case !keyvalue.ClientName(name):
		return "", fmt.Errorf("%q cannot be the name of a client: letters, digits, - and _, 32 at most", name)
	case s.Clients[name] != "":
		return "", fmt.Errorf("there is a client called %s already", name)
	case len(s.Clients) >= mostClients:
		return "", fmt.Errorf("there are %d clients already", mostClients)
	}
	host, port, err := keyvalue.Endpoint(endpoint, s.Port)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("# The profile of %s. Whoever has it gets in as %s.\n"+
		"client\ndev tun\nproto udp\nremote %s %s\n"+
		"nobind\npersist-key\npersist-tun\nresolv-retry infinite\nremote-cert-tls server\nverb 3\n"+
		"<ca>\n%s</ca>\n<cert>\n%s</cert>\n<key>\n%s</key>\n", name, name, host, port, certificate(s.Certificate),
		certificate(cert), private(key))
	if _, _, err := openvpn.Parse(name+openvpn.Suffix, []byte(text)); err != nil {
		return "", fmt.Errorf("%q cannot be the endpoint: %w", endpoint, err)
	}
	digest := sha256.Sum256(cert)
	s.Clients[name] = openvpn.Fingerprint(digest[:])
	return text, nil
}

func certificate(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func private(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// For returns what a profile of a server asks of openvpn.
func For(file string, p profile.Profile) openvpn.Tunnel {
	t := openvpn.Tunnel{File: file, Link: openvpn.LinkName(file, p)}
	s, err := Read(p)
	switch {
	case err != nil:
		t.Fault = err.Error()
		return t
	case len(s.Clients) == 0:
		t.Fault = "there is no client; try: osctl net vpn-server add NAME"
		return t
	}
	t.Port = s.Port
	own := s.Network.Addr().Next()
	first, last := own.Next(), broadcast(s.Network).Prev()
	mask := net.IP(net.CIDRMask(s.Network.Bits(), 32)).String()
	key, _ := base64.StdEncoding.DecodeString(s.Key.Reveal()) // Read has judged it
	var b strings.Builder
	fmt.Fprintf(&b, "mode server\ntls-server\ndh none\nproto udp\nlport %d\ndev-type tun\ntopology subnet\n"+
		"ifconfig %s %s\nifconfig-pool %s %s %s\npush \"topology subnet\"\npush \"route-gateway %s\"\n"+
		"keepalive 10 60\nexplicit-exit-notify 1\nremote-cert-tls client\n", s.Port, own, mask, first, last, mask, own)
	fmt.Fprintf(&b, "<cert>\n%s</cert>\n<key>\n%s</key>\n<peer-fingerprint>\n", certificate(s.Certificate),
		private(key))
	for _, name := range slices.Sorted(maps.Keys(s.Clients)) {
		b.WriteString(s.Clients[name] + "\n")
	}
	b.WriteString("</peer-fingerprint>\n" + t.Common())
	t.Config = keyvalue.NewSecret(b.String())
	return t
}

// broadcast returns the last address of a network.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := range 32 - p.Bits() {
		b[3-i/8] |= 1 << (i % 8)
	}
	return netip.AddrFrom4(b)
}
