package profilecheck

import (
	"resinos/net/keyvalue"
	"resinos/net/profile"
)

// checkBond judges what the options of a bond need of each other.
func checkBond(p *profile.Profile) error {
	if p.Connection.Type == profile.TypeBond && p.Bond == nil {
		p.Bond = &profile.Bond{}
	}
	b := p.Bond
	if b == nil {
		return nil
	}
	if b.Options["mode"] == "" {
		if b.Options == nil {
			b.Options = map[string]string{}
		}
		b.Options["mode"] = "balance-rr"
	}
	const s = "bond"
	mode := keyvalue.BondWords("mode")[b.Word("mode", 0)]
	balancing := mode == "balance-tlb" || mode == "balance-alb"
	arp := b.Number("arp_interval", 0)
	miimon := b.Number("miimon", 100)
	if arp > 0 && b.Options["miimon"] == "" {
		miimon = 0
	}
	targets := b.Options["arp_ip_target"] != "" || b.Options["ns_ip6_target"] != ""
	switch {
	case balancing && arp > 0:
		return fault(s, "arp_interval", "does not go with mode=%s", mode)
	case (balancing || mode == "802.3ad") && b.Number("arp_missed_max", 0) > 0:
		return fault(s, "arp_missed_max", "does not go with mode=%s", mode)
	case b.Options["primary"] != "" && mode != "active-backup" && !balancing:
		return fault(s, "primary", "does not go with mode=%s", mode)
	case miimon == 0 && (b.Number("updelay", 0) > 0 || b.Number("downdelay", 0) > 0):
		return fault(s, "updelay", "needs miimon")
	case arp > 0 && !targets:
		return fault(s, "arp_interval", "needs arp_ip_target")
	case arp == 0 && targets:
		return fault(s, "arp_ip_target", "needs arp_interval")
	case b.Word("lacp_rate", 0) != 0 && mode != "802.3ad":
		return fault(s, "lacp_rate", "goes with mode=802.3ad only")
	}
	return needsName(p, profile.TypeBond)
}
