package advert

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"resinos/services/sysctl"
)

// settings is the directory of the kernel's settings of IPv6, one directory for each link.
const settings = "net/ipv6/conf"

// Forward has the kernel forward packets of IPv6 and makes this link that of a router, whose guests keep it as a router
// (RFC 4861, 7.2.5). As a router a device would no longer take addresses and routes from others, and would drop those
// that it has: all other links stay hosts, and only the setting for all of them counts for what is forwarded.
func Forward(link string) error {
	if err := forwardAll(); err != nil {
		return fmt.Errorf("forward IPv6: %w", err)
	}
	return sysctl.Set(filepath.Join(settings, filepath.Base(link), "forwarding"), "1")
}

func forwardAll() error {
	if is("all", "forwarding", "1") {
		return nil
	}
	list, err := os.ReadDir(filepath.Join(sysctl.Root, settings))
	if err != nil {
		return err
	}
	var hosts []string // which take what routers say
	for _, e := range list {
		if e.Name() != "all" && is(e.Name(), "accept_ra", "1") {
			hosts = append(hosts, e.Name())
			err = errors.Join(err, set(e.Name(), "accept_ra", "2")) // 2 keeps the routes
		}
	}
	err = errors.Join(err, set("all", "forwarding", "1"))
	for _, e := range list {
		if e.Name() != "all" {
			err = errors.Join(err, set(e.Name(), "forwarding", "0"))
		}
	}
	for _, name := range hosts {
		err = errors.Join(err, set(name, "accept_ra", "1"))
	}
	return err
}

// Host makes a link that of a host again.
func Host(link string) error { return set(link, "forwarding", "0") }

func is(link, name, value string) bool {
	text, err := os.ReadFile(filepath.Join(sysctl.Root, settings, filepath.Base(link), name))
	return err == nil && strings.TrimSpace(string(text)) == value
}

// set sets a value of a link that is still there.
func set(link, name, value string) error {
	err := sysctl.Set(filepath.Join(settings, filepath.Base(link), name), value)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
