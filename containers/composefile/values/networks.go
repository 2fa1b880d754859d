package values

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/compose-spec/compose-go/v2/types"

	"resinos/containers/app"
)

// MTU reads the options of a network into its link.
func MTU(link *app.Link, options map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if name != "com.docker.network.driver.mtu" && name != "mtu" {
			return fmt.Errorf("option %s is not supported, only com.docker.network.driver.mtu is", name)
		}
		mtu, err := strconv.Atoi(options[name])
		if err != nil || mtu < 576 || mtu > 9216 {
			return fmt.Errorf("mtu %q is not between 576 and 9216", options[name])
		}
		link.MTU = mtu
	}
	return nil
}

// Subnets reads the addresses of a network into its link: at most one subnet of each family, whose gateway is its first
// address.
func Subnets(link *app.Link, ipam types.IPAMConfig) error {
	for _, pool := range ipam.Config {
		if pool.IPRange != "" || len(pool.AuxiliaryAddresses) > 0 {
			return errors.New("of config only subnet and gateway are supported: remove ip_range and aux_addresses")
		}
		prefix, err := netip.ParsePrefix(pool.Subnet)
		into, family, low, high := &link.Subnet, "IPv4", 8, 29
		if err == nil && prefix.Addr().Is6() {
			into, family, low, high = &link.Subnet6, "IPv6", 16, 120
		}
		switch {
		case err != nil || prefix.Bits() > high || prefix.Bits() < low || prefix.Masked() != prefix:
			return fmt.Errorf("subnet %q is no %s subnet of /%d to /%d", pool.Subnet, family, low, high)
		case *into != "":
			return fmt.Errorf("one subnet of %s is enough", family)
		case family == "IPv6" && !link.IPv6:
			return fmt.Errorf("subnet %s needs enable_ipv6: true", pool.Subnet)
		case pool.Gateway != "" && pool.Gateway != prefix.Addr().Next().String():
			return fmt.Errorf("gateway %s: the gateway of subnet %s is its first address, %s",
				pool.Gateway, pool.Subnet, prefix.Addr().Next())
		}
		*into = pool.Subnet
	}
	return nil
}
