// Package keyvalue owns the values in key files that have a form of their own: numbers, hardware addresses, names of
// links and clients, networks, endpoints, attributes of routes, routing rules, options of bonds, keys of wireguard, and
// secrets.
//
// It is pure: it reads no files, and knows neither sections nor the names of keys.
//
// Read first: MAC.
package keyvalue

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"resinos/net/keyfile"
)

// MAC is a hardware address in capitals, or one of the words that its key allows.
type MAC string

// ErrMAC says that a text is no hardware address.
var ErrMAC = errors.New("not a hardware address")

// Read reads an address, a word, or the old form, a list of six numbers.
func (m *MAC) Read(k keyfile.Key, words []string) error {
	if text, err := k.Text(); err == nil {
		if slices.Contains(words, text) {
			*m = MAC(text)
			return nil
		}
		if a, ok := Hardware(text); ok {
			*m = a
			return nil
		}
	}
	list, err := k.List()
	if err != nil || len(list) != 6 {
		return ErrMAC
	}
	parts := make([]string, 6)
	for i, text := range list {
		n, err := Number(text, 0, 255)
		if err != nil {
			return ErrMAC
		}
		parts[i] = fmt.Sprintf("%02X", n)
	}
	*m = MAC(strings.Join(parts, ":"))
	return nil
}

// Hardware reads six hexadecimal numbers with colons or dashes between them.
func Hardware(text string) (MAC, bool) {
	separator := ":"
	if !strings.Contains(text, ":") {
		separator = "-"
	}
	parts := strings.Split(text, separator)
	if len(parts) != 6 {
		return "", false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 16, 8)
		if err != nil || len(p) > 2 {
			return "", false
		}
		parts[i] = fmt.Sprintf("%02X", n)
	}
	return MAC(strings.Join(parts, ":")), true
}

// Raw are bytes that need not be text, such as the name of a radio network.
type Raw string

// Read reads text, in which \; may stand for a semicolon, or the old form, a list of numbers that each end with one.
func (b *Raw) Read(k keyfile.Key) error {
	text, err := k.Text()
	if err != nil {
		return err
	}
	if list, is := byteList(text); is {
		*b = Raw(list)
		return nil
	}
	*b = Raw(strings.ReplaceAll(text, `\;`, ";"))
	return nil
}

func byteList(text string) (string, bool) {
	fields := strings.Split(text, ";")
	if len(fields) < 2 || strings.TrimSpace(fields[len(fields)-1]) != "" {
		return "", false
	}
	var out []byte
	for _, f := range fields[:len(fields)-1] {
		f = strings.TrimSpace(f)
		n, err := strconv.ParseUint(f, 10, 8)
		if err != nil || len(f) > 3 {
			return "", false
		}
		out = append(out, byte(n))
	}
	return string(out), true
}

// Cert names a certificate: a path, or "data:;base64,…".
type Cert string

// Read drops the scheme of a path, which means the same without it.
func (c *Cert) Read(k keyfile.Key) error {
	text, err := k.Text()
	if path, is := strings.CutPrefix(text, "file://"); is && strings.HasPrefix(path, "/") {
		text = path
	}
	*c = Cert(text)
	return err
}

// Key32 reads 32 bytes in base64.
func Key32(text string) ([]byte, bool) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	return b, err == nil && len(b) == 32
}

// Network reads ADDRESS/BITS, or an address alone, for a single one.
func Network(text string) (netip.Prefix, bool) {
	address, bits, has := strings.Cut(text, "/")
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	n := int64(a.BitLen())
	if has {
		if n, err = Number(bits, 0, n); err != nil {
			return netip.Prefix{}, false
		}
	}
	return netip.PrefixFrom(a, int(n)), true
}

var errNumber = errors.New("not a number")

// Number reads a number as C does: 0x and 0 begin hexadecimal and octal ones, and white space around it is skipped.
func Number(text string, low, high int64) (int64, error) {
	text = strings.Trim(text, " \t\n\v\f\r")
	digits, sign := text, ""
	if digits != "" && (digits[0] == '-' || digits[0] == '+') {
		digits, sign = text[1:], strings.TrimPrefix(text[:1], "+")
	}
	base := 10
	switch {
	case len(digits) > 2 && (digits[:2] == "0x" || digits[:2] == "0X"):
		base, digits = 16, digits[2:]
	case len(digits) > 1 && digits[0] == '0':
		base, digits = 8, digits[1:]
	}
	if strings.ContainsAny(digits, "+-_") {
		return 0, errNumber
	}
	n, err := strconv.ParseInt(sign+digits, base, 64)
	if err != nil {
		return 0, errNumber
	}
	if n < low || n > high {
		return 0, fmt.Errorf("not from %d to %d", low, high)
	}
	return n, nil
}

// LinkName reports whether the kernel takes the name for a link.
func LinkName(name string) bool {
	return name != "" && len(name) < 16 && name != "." && name != ".." && name != "all" && name != "default" &&
		name != "bonding_masters" && !strings.ContainsFunc(name, func(r rune) bool {
		return r == '/' || r == ':' || r == '%' || r <= ' ' || r >= 0x7f
	})
}

// Quoted returns bytes as a list of numbers, which fits all of them, unless they are plain text.
func (b Raw) Quoted() string {
	plain := !strings.ContainsFunc(string(b), func(r rune) bool {
		return r <= ' ' || r >= 0x7f || r == ';' || r == '\\'
	})
	if _, list := byteList(string(b)); plain && !list {
		return string(b)
	}
	var out strings.Builder
	for i := range len(b) {
		fmt.Fprintf(&out, "%d;", b[i])
	}
	return out.String()
}
