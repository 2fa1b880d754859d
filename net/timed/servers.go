package timed

import (
	_ "embed"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/BurntSushi/toml"

	"resinos/net/clock"
	"resinos/net/lease"
)

//go:embed servers.toml
var table string

// Defaults returns the servers of the table.
func Defaults() ([]string, error) {
	list, err := parseTable(table)
	if err != nil {
		return nil, fmt.Errorf("servers.toml: %w", err)
	}
	var names []string
	for _, s := range list {
		names = append(names, s.Name)
	}
	return names, nil
}

// server is one row of the table.
type server struct {
	Name string `toml:"name"`
	Why  string `toml:"why"` // why every device may ask it
}

func parseTable(text string) ([]server, error) {
	var t struct {
		Servers []server `toml:"server"`
	}
	meta, err := toml.Decode(text, &t)
	if err == nil && len(meta.Undecoded()) > 0 {
		err = fmt.Errorf("unknown key %s", meta.Undecoded()[0])
	}
	return t.Servers, err
}

// Sources combines the servers, each once, the nearest first: those of the network, of the owner, of the table.
func Sources(leased []netip.Addr, configured, defaults []string) []clock.Source {
	var all []clock.Source
	add := func(name, from string) {
		if !slices.ContainsFunc(all, func(s clock.Source) bool { return s.Name == name }) {
			all = append(all, clock.Source{Name: name, From: from})
		}
	}
	for _, a := range leased {
		add(a.String(), "dhcp")
	}
	for _, name := range configured {
		add(name, "config")
	}
	for _, name := range defaults {
		add(name, "default")
	}
	return all
}

// leases are the time servers that DHCP servers named, by link.
type leases map[string]lease.Lease

// servers returns the servers of the leases that have not ended, in the order of the links' names.
func (l leases) servers(now time.Duration) []netip.Addr {
	var all []netip.Addr
	var links []string
	for link, one := range l {
		if one.Length > 0 && now-one.Bound >= one.Length {
			delete(l, link)
			continue
		}
		links = append(links, link)
	}
	slices.Sort(links)
	for _, link := range links {
		all = append(all, l[link].NTP...)
	}
	return all
}
