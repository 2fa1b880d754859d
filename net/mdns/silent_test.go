package mdns

import (
	"testing"

	"github.com/vishvananda/netlink"

	"resinos/mounts/testenv"
	"resinos/net/link"
	"resinos/net/link/linktest"
)

// On a link that is to be silent, nothing is said or asked; on the others, all is as usual.
func TestSilent(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	for name, text := range map[string]string{"w0": "10.9.0.1/24", "w1": "10.9.1.1/24"} {
		linktest.Cable(t, name).Up()
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		a, _ := netlink.ParseAddr(text)
		for _, err := range []error{netlink.LinkSetUp(l), netlink.AddrAdd(l, a)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	r := New(Config{Serves: func(l link.Link) bool { return l.Kind == link.Virtual }})
	done := make(chan error, 1)
	go func() { done <- r.Run(t.Context()) }()
	t.Cleanup(func() { <-done })
	links := func() (names string) {
		for _, f := range r.faces.Load().links {
			names += f.name
		}
		return names
	}
	r.Set(t.Context(), Wish{Hostname: "device"})
	testenv.WaitFor(t, "both links", func() bool { return len(links()) == 4 })
	r.Set(t.Context(), Wish{Hostname: "device", Silent: []string{"w0"}})
	testenv.WaitFor(t, "one link", func() bool { return links() == "w1" })
	r.Set(t.Context(), Wish{Hostname: "device"})
	testenv.WaitFor(t, "both links again", func() bool { return len(links()) == 4 })
}

// Links that netd has created lead to neighbours; other virtual links lead to containers.
func TestUsual(t *testing.T) {
	for want, list := range map[bool][]link.Link{
		true: {{Kind: link.Wired}, {Kind: link.Wifi}, {Kind: link.Virtual, Type: "bond", Own: true}},
		false: {{Kind: link.Virtual, Type: "bridge"}, {Kind: link.Virtual, Type: "wireguard", Own: true},
			{Kind: link.Member, Type: "bond", Own: true}},
	} {
		for _, l := range list {
			if usual(l) != want {
				t.Errorf("usual(%+v) = %t", l, !want)
			}
		}
	}
}
