package profile

import (
	"fmt"
	"reflect"

	"resinos/net/keyfile"
)

// refused are the keys that nothing will act on, by their first name: the value that is so anyway, and the reason.
var refused = [...]struct{ key, holds, why string }{
	{"autoconnect-retries", "0", "the device never gives up"},
	{"permissions", "", "no effect: the profile counts whoever is logged in"},
	{"dns-over-tls", "0", "no effect: name servers are asked without TLS"},
	{"gateway-ping-timeout", "", "no effect: a link counts before its gateway answers"},
	{"lldp", "0", "no effect: LLDP is not spoken"},
	{"llmnr", "0", "no effect: LLMNR is not spoken, multicast DNS is"},
	{"metered", "", "no effect: nothing asks what a link costs"},
	{"mptcp-flags", "", "no effect: the links announce no MPTCP endpoints"},
	{"mud-url", "", "no effect: no MUD URL is sent"},
	{"wait-activation-delay", "0", "no effect: a link is used at once"},
	{"wait-device-timeout", "0", "no effect: nothing waits for a link"},
	{"zone", "", "no effect: there are no zones, use nftables"},
	{"port", "", "no effect: the driver chooses the port"},
	{"may-fail", "", "no effect: each family counts as soon as it has an address"},
	{"required-timeout", "0", "no effect: each family counts as soon as it has an address"},
	{"auto-route-ext-gw", "0", "no effect: the routes are those of the file and of the server"},
	{"replace-local-rule", "0", "no effect: the rule for local addresses stays"},
	{"dhcp-timeout", "", "no effect: a server is looked for as long as there is none"},
}

// without warns of a key without an effect, unless its value asks for nothing: it is the usual one, or one that is so
// anyway.
func (r *reader) without(g keyfile.Group, k keyfile.Key, value, usual reflect.Value) {
	if k.Value == "" || reflect.DeepEqual(value.Interface(), usual.Interface()) {
		return
	}
	why := "not supported, has no effect"
	for _, one := range refused {
		if one.key != k.Name {
			continue
		}
		if one.holds != "" && one.holds == fmt.Sprint(value.Interface()) {
			return
		}
		why = one.why
	}
	r.warn(g.Name, k, "%s", why)
}
