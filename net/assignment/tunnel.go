package assignment

import (
	"hash/fnv"

	"resinos/net/keyvalue"
	"resinos/net/link"
	"resinos/net/profile"
	"resinos/net/routingrule"
	"resinos/net/wireguard"
)

// The rules that lead everything into a tunnel but the tunnel's own packets: routes of the main table that are more
// narrow than a default route still count. NetworkManager and wg-quick set rules of the same meaning.
const (
	mainPriority   = 31599
	tunnelPriority = 31600
)

// tunnelPriorityOfNames has the name servers of a tunnel asked before those of other links, as in NetworkManager.
const tunnelPriorityOfNames = 50

// tunnelTable is the first of the tables and marks of tunnels that get a default route.
const tunnelTable = 51820

// Tunnels returns what the wireguard links of profiles should be.
func Tunnels(entries []Entry) []wireguard.Config {
	var out []wireguard.Config
	for _, e := range entries {
		w := e.Profile.WireGuard
		if e.Profile.Connection.Type != profile.TypeWireGuard || w == nil || e.Profile.LinkName() == "" {
			continue
		}
		c := wireguard.Config{Link: e.Profile.LinkName(), Private: w.PrivateKey, Port: uint16(w.ListenPort)}
		c.Mark = uint32(w.FWMark)
		if leads(e.Profile, false) || leads(e.Profile, true) {
			c.Mark = markOf(e.Profile)
		}
		for _, p := range w.Peers {
			key, ok := wireguard.PublicKey(p.PublicKey)
			if !ok {
				continue // not reached: the reader has judged it
			}
			peer := wireguard.Peer{Public: key, Preshared: p.Preshared, Endpoint: p.Endpoint,
				Keepalive: uint16(min(p.Keepalive, 65535))}
			for _, n := range p.AllowedIPs {
				peer.Allowed = append(peer.Allowed, n.Masked())
			}
			c.Peers = append(c.Peers, peer)
		}
		out = append(out, c)
	}
	return out
}

// markOf is the mark of the packets of a tunnel, and the table of its default route.
func markOf(p profile.Profile) uint32 {
	if p.WireGuard.FWMark != 0 {
		return uint32(p.WireGuard.FWMark)
	}
	h := fnv.New32a()
	h.Write([]byte(p.LinkName()))
	return tunnelTable + h.Sum32()%4096
}

// ipOf returns the section of a family in which a tunnel has addresses; nil: in none.
func ipOf(p profile.Profile, six bool) *profile.IP {
	ip := p.IPv4
	if six {
		ip = p.IPv6
	}
	if ip == nil || ip.Method == profile.Disabled || ip.Method == profile.Ignore {
		return nil
	}
	return ip
}

// leads reports whether the default route of a family leads into the tunnel, by rules of its own.
func leads(p profile.Profile, six bool) bool {
	ip, w := ipOf(p, six), p.WireGuard
	if ip == nil || !w.PeerRoutes || ip.NeverDefault {
		return false
	}
	auto := w.IPv4DefaultRoute
	if six {
		auto = w.IPv6DefaultRoute
	}
	for _, peer := range w.Peers {
		for _, n := range peer.AllowedIPs {
			if n.Bits() == 0 && n.Addr().Is6() == six {
				return auto == 1 || auto == -1 && ip.Gateway == ""
			}
		}
	}
	return false
}

// tunnel adds the routes to the networks of the peers, and says what is missing.
func (s *Static) tunnel(p profile.Profile, metric int) {
	w := p.WireGuard
	switch {
	case w.PrivateKeyFlags != 0 && w.PrivateKey.Reveal() == "":
		s.note("[wireguard] private-key is not in the file, and nobody can be asked for it: the tunnel stays closed")
	case w.PrivateKey.Reveal() == "":
		s.note("[wireguard] private-key is missing: the tunnel stays closed")
	default:
		if _, ok := keyvalue.Key32(w.PrivateKey.Reveal()); !ok {
			s.note("[wireguard] private-key is not a key of 32 bytes in base64: the tunnel stays closed")
		}
	}
	for _, six := range []bool{false, true} {
		ip := ipOf(p, six)
		if ip == nil || !w.PeerRoutes {
			continue
		}
		mark := int(markOf(p))
		for _, peer := range w.Peers {
			for _, n := range peer.AllowedIPs {
				if n.Addr().Is6() != six || n.Bits() == 0 && ip.NeverDefault {
					continue
				}
				r := link.Route{Destination: n.Masked(), Metric: metricOf(ip, metric), Table: tableOf(ip)}
				if n.Bits() == 0 && leads(p, six) {
					r.Table = mark
				}
				s.Wanted.Routes = append(s.Wanted.Routes, r)
			}
		}
		if leads(p, six) {
			narrower := routingrule.Rule{Six: six, Priority: mainPriority, Action: routingrule.ToTable, Table: 254}
			others := routingrule.Rule{Six: six, Priority: tunnelPriority, Action: routingrule.ToTable, Table: mark,
				Not: true, Mark: uint32(mark), Mask: 1<<32 - 1, SuppressPrefix: -1}
			s.Rules = append(s.Rules, narrower, others)
		}
	}
}

func tableOf(ip *profile.IP) int {
	if ip.Table == 254 {
		return 0
	}
	return int(ip.Table)
}
