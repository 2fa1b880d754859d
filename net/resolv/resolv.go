// Package resolv owns the content of /run/resinos/resolv.conf: the name servers and search domains of a device,
// computed from those of each link.
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

// Source is the name servers and domains of one link.
type Source struct {
	Link    string
	Metric  int // of the link's routes: servers with a lower metric are asked earlier
	Servers []netip.Addr
	Search  []string
}

// Render returns the file for these sources, in the order of their metrics. Each server and domain appears once, and
// there are no more than resolvers read; a domain that is not a host name is left out.
func Render(sources []Source) []byte {
	sources = slices.Clone(sources)
	slices.SortStableFunc(sources, func(a, b Source) int {
		return cmp.Or(cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Link, b.Link))
	})
	var b bytes.Buffer
	b.WriteString("# Written by netd from the leases of the links. Changes are lost.\n")
	if domains := searchOf(sources); len(domains) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(domains, " "))
	}
	var used []netip.Addr
	for _, s := range sources {
		for _, server := range s.Servers {
			if len(used) == maxServers || !server.IsValid() || slices.Contains(used, server) {
				continue
			}
			used = append(used, server)
			fmt.Fprintf(&b, "nameserver %s\n", server)
		}
	}
	return b.Bytes()
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
