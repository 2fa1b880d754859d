package dhcp6

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"strings"
)

// The types of a DUID (RFC 8415, section 11), and the limits on its length.
const (
	duidLL   = 3
	duidUUID = 4
	minDUID  = 3
	maxDUID  = 130
)

// DUID returns the identifier that a profile asks for by its dhcp-duid: "ll", or bytes in hexadecimal separated by
// colons. For anything else it is one that depends only on the identity of the device, a text that stays (RFC 6355).
func DUID(wish, identity string, hardware net.HardwareAddr) []byte {
	if wish == "ll" {
		return append([]byte{0, duidLL, 0, 1}, hardware...)
	}
	p, err := hex.DecodeString(strings.ReplaceAll(wish, ":", ""))
	if err == nil && len(p) >= minDUID && len(p) <= maxDUID {
		return p
	}
	sum := sha256.Sum256([]byte("dhcp6 duid\x00" + identity))
	return append([]byte{0, duidUUID}, sum[:16]...)
}

// IAID returns the number of the addresses of a link, which depends only on its name.
func IAID(link string) [4]byte {
	sum := sha256.Sum256([]byte("dhcp6 iaid\x00" + link))
	return [4]byte(sum[:4])
}
