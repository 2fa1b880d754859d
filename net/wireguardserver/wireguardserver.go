// Package wireguardserver owns the settings of the device as a server of wireguard: its key file, with a section for
// each peer, and the profile that each peer gets. The key file is an ordinary one of the type wireguard, and netd needs
// nothing else; what an owner adds to it stays.
//
// It is pure: keys are made elsewhere (net/vpnclients). Read first: Server.
package wireguardserver

import (
	"crypto/ecdh"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"resinos/net/keyfile"
	"resinos/net/keyvalue"
	"resinos/net/profile"
	"resinos/net/profilecheck"
)

// File is the name of the key file that osctl writes.
const File = "wireguard-server.nmconnection"

// Key is a private or preshared key of 32 bytes.
type Key [32]byte

// text is the key as wg(8) writes it.
func (k Key) text() string { return base64.StdEncoding.EncodeToString(k[:]) }

// public returns the public key of a private one.
func (k Key) public() (string, error) {
	private, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(private.PublicKey().Bytes()), nil
}

// Server is the key file, and what it says.
type Server struct {
	file    keyfile.File
	private Key
	port    uint16
	own     netip.Prefix // the device's address and network in the tunnel
	used    []netip.Prefix
	peers   map[string]string // public keys by the names of the peers
}

// The usual settings, and the section with the names of the peers: NetworkManager gives the keys in it no meaning.
const (
	linkName    = "wg-server"
	usualPort   = 51820
	usualOwn    = "10.9.0.1/24"
	names       = "user"
	namePrefix  = "peer."
	peerSection = "wireguard-peer."
	mostPeers   = 200
)

// New returns a server without peers that has this private key.
func New(private Key) (Server, error) {
	group := func(name string, pairs ...string) keyfile.Group {
		g := keyfile.Group{Name: name}
		for i := 0; i < len(pairs); i += 2 {
			g.Keys = append(g.Keys, keyfile.Key{Name: pairs[i], Value: keyfile.Quote(pairs[i+1])})
		}
		return g
	}
	f := keyfile.File{Groups: []keyfile.Group{
		group("connection", "id", "wireguard-server", "type", "wireguard", "interface-name", linkName),
		group("wireguard", "listen-port", strconv.Itoa(usualPort), "private-key", private.text()),
		group("ipv4", "method", "manual", "address1", usualOwn),
		group("ipv6", "method", "disabled"),
		group(names),
	}}
	return Read(File, []byte(f.String()))
}

// Read reads the key file. Errors name the file, the section and the key.
func Read(path string, text []byte) (Server, error) {
	s := Server{peers: map[string]string{}}
	p, _, err := profilecheck.Read(path, text) // netd shows the warnings
	if err != nil {
		return s, err
	}
	fault := func(what string) (Server, error) { return Server{}, fmt.Errorf("%s: %s", path, what) }
	if p.Connection.Type != profile.TypeWireGuard || p.WireGuard == nil {
		return fault("[connection] type: not wireguard")
	}
	private, ok := keyvalue.Key32(p.WireGuard.PrivateKey.Reveal())
	if !ok {
		return fault("[wireguard] private-key: not a key of 32 bytes in base64")
	}
	copy(s.private[:], private)
	if s.port = uint16(p.WireGuard.ListenPort); s.port == 0 {
		return fault("[wireguard] listen-port: peers need one, as in " + strconv.Itoa(usualPort))
	}
	if p.IPv4 == nil || len(p.IPv4.Addresses) == 0 || p.IPv4.Addresses[0].Bits() > 30 {
		return fault("[ipv4] address1: not an address in a network that has room for peers, as in " + usualOwn)
	}
	s.own = p.IPv4.Addresses[0]
	for _, peer := range p.WireGuard.Peers {
		s.used = append(s.used, peer.AllowedIPs...)
	}
	if s.file, err = keyfile.Parse(text); err != nil {
		return fault(err.Error())
	}
	group, _ := s.file.Group(names)
	for _, k := range group.Keys {
		if name, is := strings.CutPrefix(k.Name, namePrefix); is {
			s.peers[name] = k.Value
		}
	}
	return s, nil
}

// Text returns the key file.
func (s Server) Text() string { return s.file.String() }

// Peers returns the names of the peers in order.
func (s Server) Peers() []string {
	var all []string
	for name := range s.peers {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// Add adds a peer that has this private key, and returns its profile in the format of wg-quick(8), which has the key.
// endpoint is HOST or HOST:PORT. The preshared key is for this peer alone: it protects what is recorded today from
// whoever will break the curve one day.
func (s *Server) Add(name, endpoint string, private, preshared Key) (conf string, err error) {
	switch {
	case !keyvalue.ClientName(name):
		return "", fmt.Errorf("%q cannot be the name of a peer: letters, digits, - and _, 32 at most", name)
	case s.peers[name] != "":
		return "", fmt.Errorf("there is a peer called %s already", name)
	case len(s.peers) >= mostPeers:
		return "", fmt.Errorf("there are %d peers already", mostPeers)
	}
	host, port, err := keyvalue.Endpoint(endpoint, s.port)
	if err != nil {
		return "", err
	}
	address, err := s.free()
	if err != nil {
		return "", err
	}
	public, err := private.public()
	if err != nil {
		return "", err
	}
	own, err := s.private.public()
	if err != nil {
		return "", err
	}
	only := netip.PrefixFrom(address, 32)
	f := keyfile.File{Groups: slices.Clone(s.file.Groups)}
	put(&f, names, keyfile.Key{Name: namePrefix + name, Value: public})
	put(&f, peerSection+public, keyfile.Key{Name: "preshared-key", Value: preshared.text()},
		keyfile.Key{Name: "preshared-key-flags", Value: "0"},
		keyfile.Key{Name: "allowed-ips", Value: only.String() + ";"})
	next, err := Read(File, []byte(f.String()))
	if err != nil {
		return "", fmt.Errorf("add peer: %w", err)
	}
	*s = next
	return fmt.Sprintf("# The profile of %s. Whoever has it gets in as %s.\n"+
		"[Interface]\nPrivateKey = %s\nAddress = %s\n\n"+
		"[Peer]\nPublicKey = %s\nPresharedKey = %s\nEndpoint = %s\nAllowedIPs = %s\nPersistentKeepalive = 25\n",
		name, name, private.text(), only, own, preshared.text(), net.JoinHostPort(host, port),
		netip.PrefixFrom(s.own.Addr(), 32)), nil
}

// Remove removes a peer: what it sends is not taken any more.
func (s *Server) Remove(name string) error {
	public := s.peers[name]
	if public == "" {
		return fmt.Errorf("no peer is called %q; there are: %s", name, strings.Join(s.Peers(), ", "))
	}
	f := keyfile.File{}
	for _, g := range s.file.Groups {
		switch g.Name {
		case peerSection + public:
			continue
		case names:
			g.Keys = slices.DeleteFunc(slices.Clone(g.Keys), func(k keyfile.Key) bool {
				return k.Name == namePrefix+name
			})
		}
		f.Groups = append(f.Groups, g)
	}
	next, err := Read(File, []byte(f.String()))
	if err != nil {
		return err
	}
	*s = next
	return nil
}

// put adds keys to a group, which it makes if there is none.
func put(f *keyfile.File, group string, keys ...keyfile.Key) {
	for i, g := range f.Groups {
		if g.Name == group {
			f.Groups[i].Keys = append(slices.Clone(g.Keys), keys...)
			return
		}
	}
	f.Groups = append(f.Groups, keyfile.Group{Name: group, Keys: keys})
}

// free returns an address of the network that neither the device nor a peer has.
func (s Server) free() (netip.Addr, error) {
	network := s.own.Masked()
	for a := network.Addr().Next(); network.Contains(a.Next()); a = a.Next() { // the last one is for everybody
		taken := slices.ContainsFunc(s.used, func(p netip.Prefix) bool { return p.Contains(a) })
		if a != s.own.Addr() && !taken {
			return a, nil
		}
	}
	return netip.Addr{}, errors.New("every address of the network in [ipv4] address1 has a peer; name a larger network")
}
