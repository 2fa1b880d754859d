package profile_test

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"testing"

	"resinos/net/profile"
)

// effective are the keys that something acts on, and the ones that tell people or NetworkManager something only.
var effective = map[string]string{
	"connection": "id uuid type interface-name autoconnect autoconnect-ports autoconnect-priority autoconnect-slaves " +
		"master controller slave-type port-type mdns multi-connect secondaries stable-id timestamp",
	"match": "driver interface-name kernel-command-line path",
	"ethernet": "accept-all-mac-addresses auto-negotiate cloned-mac-address duplex generate-mac-address-mask " +
		"mac-address mac-address-blacklist mac-address-denylist mtu speed wake-on-lan wake-on-lan-password",
	"ipv4": "method addresses gateway routes routing-rules dns dns-options dns-priority dns-search never-default " +
		"ignore-auto-dns ignore-auto-routes route-metric route-table dad-timeout dhcp-client-id dhcp-fqdn " +
		"dhcp-hostname dhcp-hostname-flags dhcp-iaid dhcp-reject-servers dhcp-send-hostname " +
		"dhcp-vendor-class-identifier link-local",
	"ipv6": "method addresses gateway routes routing-rules dns dns-options dns-priority dns-search never-default " +
		"route-metric route-table addr-gen-mode dad-timeout ip6-privacy mtu token ignore-auto-dns ignore-auto-routes " +
		"dhcp-hostname dhcp-send-hostname dhcp-duid dhcp-pd-hint",
	"bridge": "ageing-time forward-delay group-address group-forward-mask hello-time mac-address max-age " +
		"multicast-hash-max multicast-last-member-count multicast-last-member-interval multicast-membership-interval " +
		"multicast-querier multicast-querier-interval multicast-query-interval multicast-query-response-interval " +
		"multicast-query-use-ifaddr multicast-router multicast-snooping multicast-startup-query-count " +
		"multicast-startup-query-interval priority stp vlan-default-pvid vlan-filtering vlan-protocol " +
		"vlan-stats-enabled vlans",
	"bridge-port": "hairpin-mode path-cost priority vlans",
	"bond":        "*",
	"bond-port":   "prio queue-id",
	"vlan":        "egress-priority-map flags id ingress-priority-map parent protocol",
	"vpn":         "service-type *",
	"wireguard": "fwmark ip4-auto-default-route ip6-auto-default-route listen-port mtu peer-routes private-key " +
		"private-key-flags",
	"gsm":            "apn device-id home-only mtu network-id password pin sim-id sim-operator-id username",
	"wireguard-peer": "allowed-ips endpoint persistent-keepalive preshared-key preshared-key-flags",
	"wifi": "band bssid channel cloned-mac-address hidden mac-address mac-address-blacklist mac-address-denylist " +
		"mode mtu powersave ssid",
	"wifi-security": "auth-alg group key-mgmt pairwise pmf proto psk psk-flags wep-key-flags wep-key-type wep-key0 " +
		"wep-key1 wep-key2 wep-key3 wep-tx-keyidx",
	"802-1x": "altsubject-matches anonymous-identity ca-cert client-cert domain-match domain-suffix-match eap " +
		"identity password password-flags password-raw phase1-auth-flags phase1-fast-provisioning phase1-peaplabel " +
		"phase1-peapver phase2-altsubject-matches phase2-auth phase2-autheap phase2-ca-cert phase2-client-cert " +
		"phase2-domain-match phase2-domain-suffix-match phase2-private-key phase2-private-key-password " +
		"phase2-subject-match private-key private-key-password subject-match system-ca-certs",
}

// valid are values of keys that do not take 1.
var valid = map[string]string{
	"connection/type": "ethernet", "ethernet/cloned-mac-address": "stable",
	"ethernet/mac-address": "52:54:00:12:34:56", "bridge/mac-address": "52:54:00:12:34:56",
	"wireguard-peer/endpoint": "192.0.2.1:5", "wireguard-peer/allowed-ips": "192.0.2.0/24",
	"wireguard-peer/preshared-key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
	"ipv4/dns":                     "192.0.2.1", "ipv6/dns": "2001:db8::1", "ipv6/addr-gen-mode": "eui64",
	"ipv4/may-fail": "0", "ipv6/may-fail": "0", "ipv6/dhcp-send-hostname": "0",
	"wifi/cloned-mac-address": "stable", "wifi/mac-address": "52:54:00:12:34:56", "wifi/bssid": "52:54:00:12:34:56",
	"wifi/wake-on-wlan": "2",
	"ipv4/address1":     "192.0.2.2/24", "ipv6/address1": "2001:db8::2/64",
	"ipv4/route1": "192.0.2.0/24", "ipv6/route1": "2001:db8::/64",
	"ipv4/routing-rule1": "priority 5 from 192.0.2.0/24 table 100",
	"ipv6/routing-rule1": "priority 5 from 2001:db8::/64 table 100",
}

// written are the names of keys that have another one in a file.
var written = map[string]string{
	"addresses": "address1", "routes": "route1", "routing-rules": "routing-rule1", "*": "mode",
}

// Every key has an effect, or Parse warns of it with file, section and key, or of its whole section.
func TestKeysWithoutEffect(t *testing.T) {
	seen := map[string][]string{}
	sections := reflect.TypeFor[profile.Profile]()
	for i := range sections.NumField() {
		field := sections.Field(i)
		kind := field.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		names := strings.Split(field.Tag.Get("nm"), ",")
		for _, section := range names {
			seen[section] = testSection(t, section, names[0], kind)
		}
	}
	const peer = "wireguard-peer.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	seen["wireguard-peer"] = testSection(t, peer, "wireguard-peer", reflect.TypeFor[profile.Peer]())
	testKey(t, "vpn-secrets", "password", "1", false)
	for section, keys := range effective {
		for _, key := range strings.Fields(keys) {
			if !slices.Contains(seen[section], key) {
				t.Errorf("[%s] %s is listed, and is no key", section, key)
			}
		}
	}
}

// testSection tries each key of a section, which the tables know by its usual name.
func testSection(t *testing.T, section, usual string, kind reflect.Type) (seen []string) {
	t.Helper()
	acts := strings.Fields(effective[usual])
	for i := range kind.NumField() {
		tag := kind.Field(i).Tag
		if f := tag.Get("family"); f != "" && section != "ipv"+f || tag.Get("nm") == "" {
			continue
		}
		for _, key := range strings.Split(tag.Get("nm"), ",") {
			seen = append(seen, key)
			name := cmp.Or(written[key], key)
			testKey(t, section, name, cmp.Or(valid[usual+"/"+name], "1"), slices.Contains(acts, key))
		}
	}
	return seen
}

// NetworkManager writes lists that are empty as well: they ask for nothing.
func TestEmptyKeys(t *testing.T) {
	_, warnings, err := profile.Parse("office", []byte("[connection]\npermissions=\n[gsm]\n"))
	if err != nil || len(warnings) > 0 {
		t.Errorf("Parse: %v, warnings %q", err, warnings)
	}
}

// A value that is usual, or so anyway, is no reason for a warning.
func TestValuesThatAskForNothing(t *testing.T) {
	text := "[connection]\nid=x\ntype=ethernet\nautoconnect-retries=0\nlldp=0\nllmnr=0\ndns-over-tls=-1\nmetered=0\n" +
		"[ipv4]\nmethod=auto\nmay-fail=true\nrequired-timeout=-1\ndhcp-timeout=0\n"
	if _, warnings, err := profile.Parse("office", []byte(text)); err != nil || len(warnings) > 0 {
		t.Errorf("Parse: %v, warnings %q", err, warnings)
	}
	_, warnings, err := profile.Parse("office", []byte("[connection]\nautoconnect-retries=3\n"))
	const want = "office:2: [connection] autoconnect-retries: the device never gives up"
	if err != nil || len(warnings) != 1 || warnings[0].String() != want {
		t.Errorf("Parse: %v, warnings %q", err, warnings)
	}
}

func testKey(t *testing.T, section, name, value string, acts bool) {
	t.Helper()
	_, warnings, err := profile.Parse("office", []byte("["+section+"]\n"+name+"="+value+"\n"))
	if err != nil {
		t.Errorf("[%s] %s=%s: %v", section, name, value, err)
	}
	warned := false
	for _, w := range warnings {
		if w.File != "office" || w.Section != section {
			t.Errorf("[%s] %s: the warning does not name file and section: %s", section, name, w)
		}
		switch {
		case w.Key == "" && w.Text == "the section is not supported and has no effect",
			w.Key == name && !strings.HasPrefix(w.Text, "ignored"):
			warned = true
		case !warned: // behind a warning of the section, a value may be wrong
			t.Errorf("[%s] %s=%s: the value is not valid: %s", section, name, value, w)
		}
	}
	if acts == warned {
		t.Errorf("[%s] %s: listed as effective: %t; warnings %q", section, name, acts, warnings)
	}
}
