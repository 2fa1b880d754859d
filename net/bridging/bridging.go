// Package bridging owns the bridges that profiles ask for: it creates them, sets their options, and removes those that
// no profile asks for any more.
//
// It never touches a bridge of somebody else, such as the engine's: ours carry a mark. Read first: Ensure.
package bridging

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"resinos/net/assignment"
	"resinos/net/profile"
)

// alias marks the links that netd created (IFLA_IFALIAS).
const alias = "resinos: created by netd"

// Ensure creates the bridges of profiles that are missing, sets the options of those that are ours, and removes ours
// that no profile asks for. A bridge that somebody else created is used as it is. It returns a line for each change.
func Ensure(sys string, entries []assignment.Entry) (changes []string, err error) {
	list, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	wanted := map[string]profile.Profile{}
	for _, e := range entries {
		if e.Profile.Connection.Type == profile.TypeBridge {
			wanted[e.Profile.Connection.InterfaceName] = e.Profile
		}
	}
	var faults []error
	there := map[string]bool{}
	for _, l := range list {
		a := l.Attrs()
		p, asked := wanted[a.Name]
		there[a.Name] = true
		switch {
		case asked && l.Type() != "bridge":
			faults = append(faults, fmt.Errorf("create bridge %s: a %s with its name is there", a.Name, l.Type()))
		case a.Alias != alias:
		case asked:
			faults = append(faults, options(sys, a.Name, p.Bridge))
		default:
			changes = append(changes, "remove bridge "+a.Name)
			faults = append(faults, netlink.LinkDel(l))
		}
	}
	for name, p := range wanted {
		if there[name] {
			continue
		}
		changes = append(changes, "create bridge "+name)
		faults = append(faults, create(sys, name, p.Bridge))
	}
	slices.Sort(changes)
	return changes, errors.Join(faults...)
}

func create(sys, name string, b *profile.Bridge) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name = name
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attributes}); err != nil {
		return fmt.Errorf("create bridge %s: %w", name, err)
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("create bridge %s: %w", name, err)
	}
	return errors.Join(netlink.LinkSetAlias(l, alias), options(sys, name, b))
}

// options sets the options of a bridge that differ. Times are in hundredths of a second; without STP the kernel refuses
// times of 0, which then mean nothing.
func options(sys, name string, b *profile.Bridge) error {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	yes := map[bool]string{false: "0", true: "1"}
	values := [][2]string{
		{"stp_state", yes[b.STP]}, {"priority", number(b.Priority)}, {"ageing_time", number(100 * b.AgeingTime)},
		{"group_fwd_mask", number(b.GroupForwardMask)}, {"multicast_snooping", yes[b.MulticastSnooping]},
		{"vlan_filtering", yes[b.VLANFiltering]},
	}
	if b.STP {
		values = append(values, [2]string{"forward_delay", number(100 * b.ForwardDelay)},
			[2]string{"hello_time", number(100 * b.HelloTime)}, [2]string{"max_age", number(100 * b.MaxAge)})
	}
	var faults []error
	for _, v := range values {
		path := filepath.Join(sys, "class/net", filepath.Base(name), "bridge", v[0])
		have, err := os.ReadFile(path)
		now, _, _ := strings.Cut(strings.TrimSpace(string(have)), " ")
		if n, wrong := strconv.ParseInt(now, 0, 64); err == nil && wrong == nil && number(n) == v[1] {
			continue
		}
		if err == nil {
			err = os.WriteFile(path, []byte(v[1]), 0)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("set %s of bridge %s: %w", v[0], name, err))
		}
	}
	return errors.Join(faults...)
}
