package keyvalue

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

var bondModes = []string{"balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb",
	"balance-alb"}

// bondNumber returns the range of an option of bonds that is a number; high is 0 for other options.
func bondNumber(name string) (low, high int64) {
	switch name {
	case "miimon", "updelay", "downdelay", "arp_interval", "peer_notif_delay", "lp_interval", "min_links",
		"packets_per_slave":
		high = 1<<31 - 1
	case "arp_missed_max", "num_grat_arp", "num_unsol_na", "resend_igmp":
		high = 255
	case "all_slaves_active", "tlb_dynamic_lb", "use_carrier":
		high = 1
	case "ad_actor_sys_prio", "ad_user_port_key":
		high = 65535
	}
	switch name {
	case "lp_interval", "ad_actor_sys_prio":
		low = 1
	case "packets_per_slave":
		high = 65535
	case "ad_user_port_key":
		high = 1023
	}
	return low, high
}

// BondWords returns the words of an option of bonds, in the order of the kernel's numbers, by which they may be given.
func BondWords(name string) []string {
	switch name {
	case "mode":
		return bondModes
	case "ad_select":
		return []string{"stable", "bandwidth", "count"}
	case "arp_all_targets":
		return []string{"any", "all"}
	case "arp_validate":
		return []string{"none", "active", "backup", "all", "filter", "filter_active", "filter_backup"}
	case "fail_over_mac":
		return []string{"none", "active", "follow"}
	case "lacp_rate":
		return []string{"slow", "fast"}
	case "primary_reselect":
		return []string{"always", "better", "failure"}
	case "xmit_hash_policy":
		return []string{"layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"}
	}
	return nil
}

// BondOption judges one option of a bond.
func BondOption(name, value string) error {
	if words := BondWords(name); words != nil {
		n, err := strconv.Atoi(value)
		if slices.Contains(words, value) || err == nil && n >= 0 && n < len(words) {
			return nil
		}
		return fmt.Errorf("none of %s", strings.Join(words, ", "))
	}
	if low, high := bondNumber(name); high != 0 {
		_, err := Number(value, low, high)
		return err
	}
	switch name {
	case "primary", "active_slave":
		if !LinkName(value) {
			return errors.New("not the name of a link")
		}
	case "arp_ip_target", "ns_ip6_target":
		for one := range strings.SplitSeq(value, ",") {
			a, err := netip.ParseAddr(strings.TrimSpace(one))
			if err != nil || a.Is4() != (name == "arp_ip_target") {
				return errors.New("not a list of addresses")
			}
		}
	case "ad_actor_system":
		if _, ok := Hardware(value); !ok {
			return ErrMAC
		}
	default:
		return errors.New("bonds have no such option")
	}
	return nil
}
