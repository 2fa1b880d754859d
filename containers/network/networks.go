package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"resinos/containers/app"
	"resinos/containers/network/listening"
	"resinos/containers/network/pool"
	"resinos/net/nameserver"
)

// Paths on the device.
const (
	PoolPath  = "/mnt/data/networks.json"
	FilesPath = "/run/resinos/containers/networks"
)

// Networks keeps the kernel in the planned state. Unexported fields begin as zero values.
type Networks struct {
	Pool  string // file
	Files string // directory of the files that containers see as /etc/resolv.conf and /etc/hosts
	Names *nameserver.Server
	Log   *slog.Logger

	mu     sync.Mutex // guards what follows, which the manager and the starts of containers share
	loaded bool
	pool   pool.Pool
	wanted []app.Container // as last applied
	key    string          // of wanted; empty: it must be applied
	layout Layout
	// nameless is true while a name server could not be opened.
	nameless bool
}

// Apply creates the networks of the wanted containers. It also keeps the networks of containers that exist although
// they are no longer wanted, or whose app cannot be read. It does nothing if nothing has changed.
func (n *Networks) Apply(wanted []app.Container, there func(id string) bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.load()
	var all []app.Container
	for _, c := range wanted {
		if c.Network == app.NetworkBridge {
			all = append(all, c)
		}
	}
	for _, list := range n.pool.Apps {
		for _, c := range list {
			if there(c.ID()) && !slices.ContainsFunc(wanted, func(w app.Container) bool { return w.ID() == c.ID() }) {
				all = append(all, c)
			}
		}
	}
	slices.SortFunc(all, func(a, b app.Container) int { return strings.Compare(a.ID(), b.ID()) })
	key, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if string(key) == n.key && n.nameless {
		n.serveNames()
	}
	if string(key) == n.key || n.key == "" && len(all) == 0 && n.nothing() {
		n.key = string(key)
		return nil
	}
	n.key = ""
	if err := n.apply(all); err != nil {
		return err
	}
	n.key = string(key)
	return nil
}

// nothing reports whether there is nothing of ours, so that a device without networks of apps does not load the packet
// filter.
func (n *Networks) nothing() bool {
	left, err := ours()
	return err == nil && len(left) == 0 && len(n.pool.Networks) == 0
}

func (n *Networks) load() {
	if n.loaded {
		return
	}
	var err error
	if n.pool, err = pool.Load(n.Pool); err != nil {
		n.Log.Warn("saved addresses of containers not usable: assigning new ones", "error", err)
	}
	if !n.pool.Own.IsValid() {
		n.pool.Own = pool.NewOwn()
	}
	n.loaded = true
}

// apply plans and carries the plan out. What is new is on the disk before it is in the kernel, and what is old stays on
// the disk until the kernel no longer has it, so that a power cut leaves nothing unknown.
func (n *Networks) apply(all []app.Container) error {
	around, err := observe(all, n.pool)
	if err != nil {
		return err
	}
	layout, next := Plan(all, n.pool, around)
	both := pool.Pool{Networks: maps.Clone(n.pool.Networks), Six: maps.Clone(n.pool.Family(true)), Apps: next.Apps,
		Own: next.Own}
	maps.Copy(both.Networks, next.Networks)
	maps.Copy(both.Six, next.Six)
	if err := pool.Save(n.Pool, both); err != nil {
		return fmt.Errorf("keep addresses of containers: %w", err)
	}
	n.wanted, n.pool, n.layout = all, next, layout
	// The rules come first: a network never exists without the rules that separate it.
	if err := errors.Join(applyRules(Rules(layout)), applyBridges(layout.Bridges)); err != nil {
		return err
	}
	n.serveNames()
	if err := n.removeFiles(all); err != nil {
		n.Log.Warn("files of containers not removed", "error", err)
	}
	if err := pool.Save(n.Pool, next); err != nil {
		return fmt.Errorf("keep addresses of containers: %w", err)
	}
	n.Log.Info("networks of apps set", "count", len(layout.Bridges))
	return nil
}

// serveNames passes the names to the name server. Apps also run without names; Apply tries again.
func (n *Networks) serveNames() {
	err := n.Names.Set(zones(n.layout, n.wanted), namePort)
	if err != nil && !n.nameless {
		n.Log.Error("names of containers not served: stop the program that listens on port 53 of all addresses",
			"error", err)
	}
	n.nameless = err != nil
}

func observe(all []app.Container, known pool.Pool) (Surroundings, error) {
	var s Surroundings
	var err error
	if s.Routes, err = routes(); err != nil {
		return s, err
	}
	s.Listeners = listening.Ports(func(protocol string, port uint16) bool {
		for _, c := range all {
			for _, p := range c.Ports {
				if p.Protocol == protocol && p.First <= port && port <= p.Last {
					return true
				}
			}
		}
		return false
	})
	// our own name server is not a listener of others
	s.Listeners = slices.DeleteFunc(s.Listeners, func(l listening.Listener) bool {
		for _, own := range known.Networks {
			if pool.Gateway(own.Prefix) == l.Address {
				return true
			}
		}
		return false
	})
	return s, nil
}

// Ready reports whether the container can have its networks and ports now, and writes its files. It plans again for a
// container that could not: the port may be free now.
func (n *Networks) Ready(id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.key == "" || n.layout.Faults[id] != nil {
		if err := n.apply(n.wanted); err != nil {
			return err
		}
	}
	if err := n.layout.Faults[id]; err != nil {
		return err
	}
	for _, c := range n.wanted {
		if c.ID() == id {
			return n.writeFiles(c)
		}
	}
	return nil // Attach reports that it has no network
}

// Attach connects the network namespace of a process with the networks of the container.
func (n *Networks) Attach(id string, pid int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	namespace, err := netns.GetFromPid(pid)
	if err != nil {
		return fmt.Errorf("find network of %s: %w", id, err)
	}
	defer namespace.Close()
	found := false
	for _, b := range n.layout.Bridges {
		for _, e := range b.Ends {
			if e.Container != id {
				continue
			}
			found = true
			err := attach(b, e, namespace)
			if errors.As(err, new(netlink.LinkNotFoundError)) { // somebody removed the bridge
				if err = applyBridge(b); err == nil {
					err = attach(b, e, namespace)
				}
			}
			if err != nil {
				return fmt.Errorf("join %s to network %s: %w", id, b.Network, err)
			}
		}
	}
	if !found {
		return fmt.Errorf("container %s has no network yet", id)
	}
	return nil
}
