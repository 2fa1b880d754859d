// Package resolv owns the content of /run/resinos/resolv.conf: the name servers and search domains of a device,
// computed from those of each link. It defines Source, with which the parts of netd pass on the servers of a link.
//
// It never asks a name server and never decides what a link gets.
//
// Read first: Source.
package resolv

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"resinos/mounts/atomicfile"
	"resinos/services/hostname"
)

// The limits of the resolvers that read the file: glibc and musl read three servers, musl a search line of 256 bytes,
// and glibc before 2.26 six domains.
const (
	maxServers     = 3
	maxDomains     = 6
	maxSearchBytes = 256
)

// Source is the name servers and domains of one link, from whatever gives the link its addresses: a lease, a router, a
// key file.
type Source struct {
	Link     string
	Metric   int // of the link's routes: servers with a lower metric are asked earlier
	Servers  []netip.Addr
	Search   []string // searched for short names; names within them are asked of this link's servers only
	Domains  []string // not searched; names within them are asked of this link's servers only
	Options  []string // of resolvers, as in resolv.conf
	Fallback bool     // asked only if no other source has a server, and never for a private name
	// Alone: only servers of this and of other such sources with the same metric are asked, and those of the owner,
	// which have no link of their own.
	Alone bool
	Owner bool // of the owner's settings, not of a link
}

// alone returns the sources that are left when some are alone: those of the lowest metric, and the owner's.
func alone(sources []Source) []Source {
	lowest, any := 0, false
	for _, s := range sources {
		if s.Alone && (!any || s.Metric < lowest) {
			lowest, any = s.Metric, true
		}
	}
	if !any {
		return sources
	}
	return slices.DeleteFunc(sources, func(s Source) bool { return !s.Owner && !(s.Alone && s.Metric == lowest) })
}

// Ordered returns the sources in the order in which they are asked, by metric, without those that are not asked at all.
func Ordered(sources []Source) []Source {
	sources = alone(slices.Clone(sources))
	slices.SortStableFunc(sources, func(a, b Source) int {
		return cmp.Or(cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Link, b.Link))
	})
	return sources
}

// Render returns the file for these sources, in the order of their metrics. Each server and domain appears once, and
// there are no more than resolvers read; a domain that is not a host name is left out. A fallback is named only if no
// other source has a server. The first source leaves a place for the next one, which may be the only one that knows the
// names in its network. With a forwarder, the file names it instead of the servers.
func Render(sources []Source, forwarder netip.Addr) []byte {
	sources = Ordered(sources)
	var b bytes.Buffer
	b.WriteString("# Written by netd from leases and key files. Changes are lost.\n")
	if domains := searchOf(sources); len(domains) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(domains, " "))
	}
	used := serversOf(sources)
	if forwarder.IsValid() {
		used = []netip.Addr{forwarder}
	}
	for _, server := range used {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	var options []string
	for _, s := range sources {
		for _, o := range s.Options {
			if ValidOption(o) && !slices.Contains(options, o) {
				options = append(options, o)
			}
		}
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.Bytes()
}

// ValidOption reports whether resolvers know an option of resolv.conf (resolv.conf(5)).
func ValidOption(text string) bool {
	name, value, number := strings.Cut(text, ":")
	switch name {
	case "ndots", "timeout", "attempts":
		n, err := strconv.ParseUint(value, 10, 8)
		return number && err == nil && n <= 30
	case "debug", "rotate", "no-check-names", "inet6", "ip6-bytestring", "ip6-dotint", "no-ip6-dotint", "edns0",
		"single-request", "single-request-reopen", "no-tld-query", "use-vc", "no-reload", "trust-ad", "no-aaaa":
		return !number
	}
	return false
}

// serversOf returns the servers that resolvers read.
func serversOf(sources []Source) []netip.Addr {
	var with []Source
	for _, s := range sources {
		if len(s.Servers) > 0 && !s.Fallback {
			with = append(with, s)
		}
	}
	if len(with) == 0 {
		with = sources
	}
	var used []netip.Addr
	for i, s := range with {
		room := maxServers
		if i == 0 && len(with) > 1 {
			room--
		}
		for _, server := range s.Servers {
			if len(used) < room && server.IsValid() && !slices.Contains(used, server) {
				used = append(used, server)
			}
		}
	}
	return used
}

func searchOf(sources []Source) []string {
	var out []string
	size := 0
	for _, s := range sources {
		for _, domain := range s.Search {
			known := slices.ContainsFunc(out, func(d string) bool { return strings.EqualFold(d, domain) })
			if known || !hostname.Valid(domain) {
				continue
			}
			if len(out) == maxDomains || size+1+len(domain) > maxSearchBytes {
				return out
			}
			out = append(out, domain)
			size += 1 + len(domain)
		}
	}
	return out
}

// Write replaces the file at path unless it has this content already.
func Write(path string, content []byte) error {
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return atomicfile.Write(path, content, 0o644)
}
