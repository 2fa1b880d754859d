package netd

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/net/lease"
	"resinos/net/link"
)

func TestWanted(t *testing.T) {
	l := lease.Lease{
		Address: netip.MustParsePrefix("10.9.0.50/24"), Bound: 10 * time.Second, Length: time.Hour,
		Routers: []netip.Addr{netip.MustParseAddr("10.9.0.1")},
	}
	route := func(dst, gateway string) lease.Route {
		return lease.Route{Destination: netip.MustParsePrefix(dst), Gateway: netip.MustParseAddr(gateway)}
	}
	for _, tt := range []struct {
		name   string
		change func(*lease.Lease)
		mtu    int
		routes []string
	}{
		{"plain", func(l *lease.Lease) {}, 1500, []string{
			"10.9.0.0/24 scope link src 10.9.0.50 metric 102", "default via 10.9.0.1 src 10.9.0.50 metric 102"}},
		{"one address, router outside", func(l *lease.Lease) { l.Address = netip.MustParsePrefix("10.9.0.50/32") }, 1500, []string{
			"default via 10.9.0.1 src 10.9.0.50 metric 102 onlink"}},
		{"mtu for the link", func(l *lease.Lease) { l.MTU = 1400 }, 1400, []string{
			"10.9.0.0/24 scope link src 10.9.0.50 metric 102", "default via 10.9.0.1 src 10.9.0.50 metric 102"}},
		{"mtu for the routes", func(l *lease.Lease) { l.MTU = 600 }, 1280, []string{
			"10.9.0.0/24 scope link src 10.9.0.50 metric 102 mtu 600", "default via 10.9.0.1 src 10.9.0.50 metric 102 mtu 600"}},
		{"we are the router", func(l *lease.Lease) { l.Routers[0] = l.Address.Addr() }, 1500, []string{
			"10.9.0.0/24 scope link src 10.9.0.50 metric 102"}},
		{"classless routes, some twice", func(l *lease.Lease) {
			l.Routes = []lease.Route{route("10.9.0.0/24", "10.9.0.7"), route("10.8.0.0/16", "10.9.0.2"), route("10.8.0.0/16", "10.9.0.3"), route("192.0.2.1/32", "0.0.0.0")}
		}, 1500, []string{
			"10.9.0.0/24 scope link src 10.9.0.50 metric 102", "10.8.0.0/16 via 10.9.0.2 src 10.9.0.50 metric 102",
			"192.0.2.1/32 scope link src 10.9.0.50 metric 102"}},
	} {
		l := l
		l.Routers = slices.Clone(l.Routers)
		tt.change(&l)
		w := link.Wanted{MTU: 1500}
		addLease(&w, l, 102, 40*time.Second)
		var routes []string
		for _, r := range w.Routes {
			routes = append(routes, r.String())
		}
		if w.MTU != tt.mtu || !slices.Equal(routes, tt.routes) || w.Addresses[0].Valid != time.Hour-30*time.Second {
			t.Errorf("%s: mtu %d, %s, routes %q; want mtu %d, routes %q", tt.name, w.MTU, w.Addresses[0], routes, tt.mtu, tt.routes)
		}
	}
	if w := (&claim{mtu: 1500}).wanted(0); len(w.Addresses)+len(w.Routes) > 0 || w.MTU != 1500 || !w.Up {
		t.Errorf("without a lease: %+v", w)
	}
}

// notice builds one netlink message of a kind about a link.
func notice(kind uint16, index uint32, extra int) []byte {
	p := make([]byte, unix.SizeofNlMsghdr+8+extra)
	binary.NativeEndian.PutUint32(p, uint32(len(p)))
	binary.NativeEndian.PutUint16(p[4:], kind)
	binary.NativeEndian.PutUint32(p[unix.SizeofNlMsghdr+4:], index)
	return append(p, make([]byte, -len(p)&3)...)
}

func TestIndexes(t *testing.T) {
	var all []byte
	for _, p := range [][]byte{
		notice(unix.RTM_NEWLINK, 2, 100), notice(unix.RTM_NEWADDR, 2, 0), notice(unix.NLMSG_DONE, 9, 0),
		notice(unix.RTM_DELADDR, 3, 13), notice(unix.RTM_DELLINK, 4, 0),
	} {
		all = append(all, p...)
	}
	if got := indexes(all); !slices.Equal(got, []int{2, 3, 4}) {
		t.Errorf("indexes = %v, want 2 3 4", got)
	}
}

func FuzzIndexes(f *testing.F) {
	f.Add(notice(unix.RTM_NEWLINK, 2, 5))
	f.Add([]byte{255, 255, 255, 255, 16, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		if got := indexes(p); len(got) > len(p)/(unix.SizeofNlMsghdr+8) {
			t.Fatalf("%d indexes in %d bytes", len(got), len(p))
		}
	})
}
