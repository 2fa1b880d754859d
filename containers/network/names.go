package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"resinos/containers/app"
	"resinos/net/nameserver"
)

const namePort = 53

// zones returns the clients on each bridge, and for each the names on all its networks. It is pure.
func zones(l Layout, all []app.Container) map[netip.Addr]nameserver.Zone {
	known := map[string]map[string][]netip.Addr{} // by network and name
	for _, b := range l.Bridges {
		names := map[string][]netip.Addr{}
		for _, e := range b.Ends {
			for _, name := range e.Names {
				name = strings.ToLower(name)
				for _, a := range []netip.Addr{e.Address, e.Address6} {
					if a.IsValid() && !slices.Contains(names[name], a) {
						names[name] = append(names[name], a)
					}
				}
			}
		}
		known[b.Network] = names
	}
	out := map[netip.Addr]nameserver.Zone{}
	for _, c := range all {
		client := nameserver.Client{Names: map[string][]netip.Addr{}, Closed: outward(c) < 0}
		for _, s := range c.DNS {
			client.Upstream = append(client.Upstream, net.JoinHostPort(s, fmt.Sprint(namePort)))
		}
		for _, link := range c.Links {
			for name, addresses := range known[link.Network] {
				client.Names[name] = append(client.Names[name], addresses...)
			}
		}
		for _, b := range l.Bridges {
			for _, e := range b.Ends {
				if e.Container != c.ID() {
					continue
				}
				if out[b.Gateway.Addr()] == nil {
					out[b.Gateway.Addr()] = nameserver.Zone{}
				}
				out[b.Gateway.Addr()][e.Address] = client
			}
		}
	}
	return out
}

// files returns a container's /etc/resolv.conf and /etc/hosts. The container asks on one network only: resolvers that
// ask all servers at once use the first answer, which could come from the network where fewer names are known.
func files(l Layout, c app.Container) (resolv, hosts string) {
	var gateway, own, own6 netip.Addr
	for _, b := range l.Bridges {
		for _, e := range b.Ends {
			if e.Container == c.ID() && (e.Default || !gateway.IsValid()) {
				gateway, own, own6 = b.Gateway.Addr(), e.Address, e.Address6
			}
		}
	}
	options := []string{"ndots:0"}
	if slices.ContainsFunc(c.DNSOpts, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		options = nil
	}
	resolv = fmt.Sprintf("# The device answers here, and asks its own name servers.\nnameserver %s\noptions %s\n",
		gateway, strings.Join(append(options, c.DNSOpts...), " "))
	if len(c.DNSSearch) > 0 {
		resolv += "search " + strings.Join(c.DNSSearch, " ") + "\n"
	}
	hosts = fmt.Sprintf("127.0.0.1\tlocalhost\n::1\tlocalhost\n%s\t%s\n", own, c.Service)
	if own6.IsValid() {
		hosts += fmt.Sprintf("%s\t%s\n", own6, c.Service)
	}
	for _, h := range c.Hosts {
		name, address, _ := strings.Cut(h, "=")
		if address == app.HostGateway {
			address = gateway.String()
		}
		hosts += address + "\t" + name + "\n"
	}
	return resolv, hosts
}

// FilesOf returns the paths of the container's resolv.conf and hosts.
func (n *Networks) FilesOf(id string) (resolv, hosts string) {
	return filepath.Join(n.Files, id, "resolv.conf"), filepath.Join(n.Files, id, "hosts")
}

// writeFiles updates the files of a container in place, because they are bound into a running one.
func (n *Networks) writeFiles(c app.Container) error {
	resolvPath, hostsPath := n.FilesOf(c.ID())
	resolv, hosts := files(n.layout, c)
	if err := os.MkdirAll(filepath.Dir(hostsPath), 0o755); err != nil {
		return err
	}
	for path, text := range map[string]string{resolvPath: resolv, hostsPath: hosts} {
		if old, err := os.ReadFile(path); err == nil && string(old) == text {
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// removeFiles removes the files of containers that are not in all.
func (n *Networks) removeFiles(all []app.Container) error {
	list, err := os.ReadDir(n.Files)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range list {
		if !slices.ContainsFunc(all, func(c app.Container) bool { return c.ID() == e.Name() }) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(n.Files, e.Name())))
		}
	}
	return err
}
