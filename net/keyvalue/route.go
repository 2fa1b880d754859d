package keyvalue

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The forms of the attributes of routes.
const (
	u32 = 1 << iota
	u8
	flag
	addr
	prefix
	kind
	scope
	v4only
	v6only
)

// routeOption returns the form of an attribute by its name; 0 if there is none.
func routeOption(name string) int {
	switch name {
	case "advmss", "cwnd", "initcwnd", "initrwnd", "mtu", "rto_min", "table", "window":
		return u32
	case "lock-advmss", "lock-cwnd", "lock-initcwnd", "lock-initrwnd", "lock-mtu", "lock-window", "onlink", "quickack":
		return flag
	case "weight":
		return u32 | v4only
	case "tos":
		return u8 | v4only
	case "scope":
		return scope | v4only
	case "from":
		return prefix | v6only
	case "src":
		return addr
	case "type":
		return kind
	}
	return 0
}

// optionValue checks one attribute and returns it in its shortest form. fatal: the error costs all attributes.
func optionValue(form int, value string, six bool) (out string, fatal bool, err error) {
	switch {
	case form&(u32|u8|scope) != 0:
		limit := uint64(1<<32 - 1)
		if form&u32 == 0 {
			limit = 255
		}
		n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
		if err != nil || n > limit {
			return "", true, fmt.Errorf("not a number from 0 to %d", limit)
		}
		value = strconv.FormatUint(n, 10)
	case form&flag != 0:
		switch strings.ToLower(strings.TrimSpace(value)) {
		case "true", "yes", "on", "1":
			value = "true"
		case "false", "no", "off", "0":
			value = "false"
		default:
			return "", true, errors.New("neither true nor false")
		}
	}
	if six && form&v4only != 0 || !six && form&v6only != 0 {
		return "", false, errors.New("not for this family")
	}
	switch {
	case form&addr != 0:
		a, err := netip.ParseAddr(value)
		if err != nil || a.Is4() == six || a.Zone() != "" {
			return "", false, errors.New("not an address of this family")
		}
	case form&prefix != 0:
		p, ok := Network(value)
		if !ok || p.Addr().Is4() == six {
			return "", false, errors.New("not a network of this family")
		}
	case form&kind != 0:
		if !slices.Contains([]string{"unicast", "local", "blackhole", "unreachable", "prohibit", "throw"}, value) {
			return "", false, errors.New("no such type of route")
		}
	}
	return value, false, nil
}

// RouteAttribute judges one attribute of a route, and returns its value in its shortest form. known is false if no
// attribute has the name; fatal: the fault costs all attributes of the route, as it does in NetworkManager.
func RouteAttribute(name, value string, six bool) (out string, known, fatal bool, err error) {
	form := routeOption(name)
	if form == 0 {
		return "", false, false, nil
	}
	out, fatal, err = optionValue(form, value, six)
	return out, true, fatal, err
}
