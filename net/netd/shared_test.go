package netd

import (
	"slices"
	"strings"
	"testing"

	"resinos/net/link/linktest"
	"resinos/net/netstate"
	"resinos/net/sharing"
)

const shared = "[connection]\nid=lan\nuuid=11111111-2222-3333-4444-555555555555\ntype=ethernet\ninterface-name=w1\n" +
	"[ipv4]\nmethod=shared\n"

// TestShared: a shared link gets the first network that no other link uses, keeps it over a restart, and gives way when
// the uplink turns out to be in it. Others are told of each of these.
func TestShared(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	linktest.Cable(t, "w1").Up()
	states := make(chan netstate.State, 1000)
	d.changed = func(s netstate.State) { states <- s }
	d.put("lan", shared)
	d.start()
	d.has("w1", "10.42.0.1/24")
	d.told(states, "the shared link", func(s netstate.State) bool {
		l, there := s.Named("w1")
		return there && l.Shared.String() == "10.42.0.1/24" && l.ID == "lan" && l.Up()
	})
	d.stop()
	d.start()
	d.told(states, "the same network after a restart", func(s netstate.State) bool {
		l, there := s.Named("w1")
		return there && l.Shared.String() == "10.42.0.1/24"
	})
	d.far.Address("10.42.0.1/24")
	d.dnsmasq("--dhcp-range=10.42.0.50,10.42.0.90,255.255.255.0,1h")
	d.told(states, "another network", func(s netstate.State) bool {
		l, there := s.Named("w1")
		w, _ := s.Named("w0")
		return there && l.Shared.String() == "10.42.1.1/24" && w.Lease != nil && w.Up() && len(w.Routes) > 0
	})
	d.has("w1", "10.42.1.1/24")
}

// TestSharedSix: a link that shares IPv6 gets a network of the device's own, the same after a restart.
func TestSharedSix(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	linktest.Cable(t, "w1").Up()
	states := make(chan netstate.State, 1000)
	d.changed = func(s netstate.State) { states <- s }
	d.identity = "a device"
	d.put("lan", strings.Replace(shared, "[ipv4]", "[ipv4]\nmethod=disabled\n[ipv6]", 1))
	want := sharing.Local("a device", "w1")
	for range 2 {
		d.start()
		d.told(states, "the shared link", func(s netstate.State) bool {
			l, there := s.Named("w1")
			return there && l.Shared6 == want && !l.Shared.IsValid() && slices.Contains(l.Addresses, want)
		})
		d.eventually("the address", func() bool { return slices.Equal(six(t, "w1"), []string{want.String()}) })
		d.stop()
	}
}

func (d *device) told(states <-chan netstate.State, what string, ok func(netstate.State) bool) {
	d.t.Helper()
	d.eventually(what, func() bool {
		for {
			select {
			case s := <-states:
				if ok(s) {
					return true
				}
			default:
				return false
			}
		}
	})
}
