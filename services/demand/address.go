package demand

import (
	"errors"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// address is the address to which a tcp or udp socket is bound.
type address struct {
	ip   netip.Addr
	port uint16
	all  bool // every address of the device
}

// parseAddress reads HOST:PORT, both numeric; an empty host, 0.0.0.0 for one family, or :: means all addresses. Names
// are not looked up: PID 1 does not use the network.
func parseAddress(text string) (address, error) {
	host, service, err := net.SplitHostPort(text)
	if err != nil {
		return address{}, errors.New("no HOST:PORT")
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return address{}, errors.New("port is no number up to 65535")
	}
	if host == "" {
		host = "::"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return address{}, errors.New("host is no address in numbers")
	}
	ip = ip.Unmap()
	return address{ip: ip, port: uint16(port), all: ip.IsUnspecified()}, nil
}

// only4 returns all addresses of a device without IPv6.
func (a address) only4() address {
	a.ip = netip.IPv4Unspecified()
	return a
}

func (a address) family() int {
	if a.ip.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// sockaddr fails if the link that a zone names does not exist.
func (a address) sockaddr() (unix.Sockaddr, error) {
	if a.ip.Is4() {
		return &unix.SockaddrInet4{Port: int(a.port), Addr: a.ip.As4()}, nil
	}
	to := &unix.SockaddrInet6{Port: int(a.port), Addr: a.ip.As16()}
	if zone := a.ip.Zone(); zone != "" {
		link, err := net.InterfaceByName(zone)
		if err != nil {
			return nil, err
		}
		to.ZoneId = uint32(link.Index)
	}
	return to, nil
}
