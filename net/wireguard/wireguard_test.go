package wireguard

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"

	"resinos/mounts/testenv"
	"resinos/net/keyvalue"
	"resinos/net/link/linktest"
)

func secret(letter string) keyvalue.Secret {
	return keyvalue.NewSecret(base64.StdEncoding.EncodeToString([]byte(strings.Repeat(letter, 32))))
}

func key(letter string) (k Key) {
	copy(k[:], strings.Repeat(letter, 32))
	return k
}

func networks(list ...string) (out []netip.Prefix) {
	for _, text := range list {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// What is missing is planned, what is there already is not, and no step shows a secret.
func TestPlan(t *testing.T) {
	c := Config{Link: "wg0", Private: secret("p"), Port: 51820, Mark: 0x100, Peers: []Peer{
		{Public: key("a"), Preshared: secret("s"), Keepalive: 25, Allowed: networks("10.0.0.0/24", "fd00::/64")},
		{Public: key("b")},
	}}
	to := map[Key]netip.AddrPort{key("a"): netip.MustParseAddrPort("192.0.2.7:51820")}
	now := State{private: clamped(secret("p")), Port: 51820, Mark: 0x100, Peers: []PeerState{
		{Public: key("a"), preshared: preshared(secret("s")), Keepalive: 25, Endpoint: to[key("a")],
			Allowed: networks("fd00::/64", "10.0.0.0/24")},
		{Public: key("b"), Endpoint: netip.MustParseAddrPort("192.0.2.8:1")},
	}}
	a, b := key("a").Short(), key("b").Short()
	for _, test := range []struct {
		about string
		now   State
		c     Config
		want  []string
	}{
		{"a new link", State{}, c, []string{
			"wg0: set private key", "wg0: set listen-port 51820", "wg0: set fwmark 0x100",
			"wg0: peer " + a + ": put, networks 10.0.0.0/24 fd00::/64, endpoint 192.0.2.7:51820, keepalive 25 s, " +
				"preshared key",
			"wg0: peer " + b + ": put"}},
		{"all is there", now, c, nil},
		{"no peer any more", now, Config{Link: "wg0", Private: secret("p"), Port: 51820, Mark: 0x100},
			[]string{"wg0: peer " + a + ": remove", "wg0: peer " + b + ": remove"}},
		{"no mark, another key, any port", now, Config{Link: "wg0", Private: secret("q"), Peers: c.Peers},
			[]string{"wg0: set private key", "wg0: set fwmark 0x0"}},
	} {
		var got []string
		for _, s := range Plan(test.c, test.now, to) {
			got = append(got, s.String())
			text := fmt.Sprintf("%v %s", s, s)
			if strings.Contains(text, secret("s").Reveal()) || strings.Contains(text, "ssss") {
				t.Errorf("%s: a step shows a secret: %s", test.about, text)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%s: %q, want %q", test.about, got, test.want)
		}
	}
}

// Whatever a message of the kernel holds, it is read or refused.
func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	head := make([]byte, nl.SizeofGenlmsg)
	peer := nl.NewRtAttr(0, nil)
	peer.AddRtAttr(peerPublic, make([]byte, 32))
	peer.AddRtAttr(peerEndpoint, encodeEndpoint(netip.MustParseAddrPort("192.0.2.7:51820")))
	peer.AddRtAttr(peerAllowed, nl.NewRtAttr(0, nl.NewRtAttr(allowedBits, []byte{24}).Serialize()).Serialize())
	f.Add(append(head, nl.NewRtAttr(devicePeers, peer.Serialize()).Serialize()...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s State
		if s.parse(b) == nil {
			Plan(Config{}, s, nil)
		}
	})
}

func TestEndpoint(t *testing.T) {
	for _, text := range []string{"192.0.2.7:51820", "[2001:db8::1]:1"} {
		a := netip.MustParseAddrPort(text)
		if got := parseEndpoint(encodeEndpoint(a)); got != a {
			t.Errorf("%s became %s", a, got)
		}
	}
}

// run runs a Keeper that finds names by lookup, until stop or the end of the test.
func run(
	t *testing.T, lookup func(context.Context, string) ([]netip.Addr, error),
) (k *Keeper, l *testenv.Log, stop func()) {
	l = &testenv.Log{}
	k = NewKeeper(slog.New(slog.NewTextHandler(l, nil)))
	k.Lookup = lookup
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { k.Run(ctx); close(done) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("log of the keeper:\n%s", l)
		}
	})
	return k, l, stop
}

// tunnelTo sets up wg0 here, and a peer at the far end by the stock wg.
func tunnelTo(t *testing.T) (far *linktest.Far, c Config, wg func(args ...string) string) {
	far = linktest.Cable(t, "w0")
	far.Address("10.9.0.1/24")
	far.Up()
	program := testenv.NeedProgram(t, "wg")
	private, public, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	wg = func(args ...string) (out string) {
		t.Helper()
		far.Do(func() error {
			cmd := exec.Command(program, args...)
			text, err := cmd.CombinedOutput()
			out = strings.TrimSpace(string(text))
			if err != nil {
				return fmt.Errorf("wg %q: %w: %s", args, err, out)
			}
			return nil
		})
		return out
	}
	address(t, nil, "w0", "10.9.0.2/24")
	far.Do(func() error { return netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: "fwg"}}) })
	address(t, far, "fwg", "10.8.0.1/24")
	if err := netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: "wg0"}}); err != nil {
		t.Fatal(err)
	}
	address(t, nil, "wg0", "10.8.0.2/24")
	ours, ourPublic, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if l, err := net.Interfaces(); err != nil || len(l) != 3 { // lo, w0, wg0: the links for the keys have gone
		t.Errorf("links %v, %v", l, err)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(private.Reveal()), 0o600); err != nil {
		t.Fatal(err)
	}
	wg("set", "fwg", "listen-port", "5000", "private-key", file,
		"peer", ourPublic.String(), "allowed-ips", "10.8.0.2/32")
	if got := wg("show", "fwg", "public-key"); got != public.String() {
		t.Errorf("wg derives the public key %s, we %s", got, public)
	}
	return far, Config{Link: "wg0", Private: ours, Peers: []Peer{{Public: public, Keepalive: 25,
		Endpoint: "10.9.0.1:5000", Allowed: networks("10.8.0.0/24")}}}, wg
}

// address sets a link up with an address, at the far end or here.
func address(t *testing.T, far *linktest.Far, name, text string) {
	t.Helper()
	do := func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(text)
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetUp(l), netlink.AddrAdd(l, a))
	}
	if far != nil {
		far.Do(do)
	} else if err := do(); err != nil {
		t.Fatal(err)
	}
}

// passes waits until packets pass the tunnel in both directions.
func passes(t *testing.T, far *linktest.Far, what string) {
	t.Helper()
	var ear *net.UDPConn
	far.Do(func() (err error) {
		ear, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 8, 0, 1), Port: 7777})
		return err
	})
	defer ear.Close()
	c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(10, 8, 0, 1), Port: 7777})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 100)
	testenv.WaitFor(t, what, func() bool {
		c.Write([]byte("ping")) // one that is lost is sent again
		ear.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, from, err := ear.ReadFromUDP(b)
		if err != nil {
			return false
		}
		ear.WriteToUDP([]byte("pong"), from)
		c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, err = c.Read(b)
		return err == nil
	})
}

func observe(t *testing.T) State {
	t.Helper()
	s, err := Observe("wg0")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A tunnel to a peer that the stock wg has set up: it opens, shows its peer, follows a peer that moves although the
// same is wanted again, and a later keeper leaves the peer where it answers. Without the peer in the profile it is
// closed.
func TestTunnel(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	linktest.NeedKinds(t, "wireguard")
	far, c, wg := tunnelTo(t)
	k, l, stop := run(t, nil)
	k.Want([]Config{c})
	passes(t, far, "packets through the tunnel")
	s := observe(t)
	if p := s.Peers[0]; p.Handshake.IsZero() || p.Received == 0 || p.Sent == 0 || p.Keepalive != 25 ||
		p.Endpoint.String() != "10.9.0.1:5000" {
		t.Errorf("the peer is %+v", p)
	}
	fields := strings.Fields(wg("show", "fwg", "latest-handshakes"))
	if len(fields) != 2 || fields[0] != s.Public.String() || fields[1] == "0" {
		t.Errorf("wg says %q", fields)
	}

	wg("set", "fwg", "listen-port", "6000")
	far.Do(func() error { // the peer speaks first
		e, err := net.Dial("udp4", "10.8.0.2:9")
		if err == nil {
			_, err = e.Write([]byte("here"))
			e.Close()
		}
		return err
	})
	testenv.WaitFor(t, "the new endpoint", func() bool { return observe(t).Peers[0].Endpoint.Port() == 6000 })
	k.Want([]Config{c})
	passes(t, far, "packets to the peer that moved")
	stop()
	later, _, _ := run(t, nil)
	c.Peers[0].Keepalive = 26
	later.Want([]Config{c})
	testenv.WaitFor(t, "the later keeper's work", func() bool { return observe(t).Peers[0].Keepalive == 26 })
	if port := observe(t).Peers[0].Endpoint.Port(); port != 6000 {
		t.Errorf("the later keeper has set the port back to %d", port)
	}
	// Another endpoint in the profile counts at once.
	c.Peers[0].Endpoint = "10.9.0.1:7000"
	wg("set", "fwg", "listen-port", "7000")
	later.Want([]Config{c})
	testenv.WaitFor(t, "the endpoint of the profile", func() bool {
		return observe(t).Peers[0].Endpoint.Port() == 7000
	})
	passes(t, far, "packets to the new endpoint")
	later.Want([]Config{{Link: "wg0", Private: c.Private}})
	testenv.WaitFor(t, "no peer", func() bool { return len(observe(t).Peers) == 0 })
	if text := l.String() + fmt.Sprintf("%v %+v", c, c); strings.Contains(text, c.Private.Reveal()) {
		t.Error("the private key is shown")
	}
}

// A peer that is given by name is looked up until there is an answer; the rest of the link does not wait for that.
func TestTunnelToName(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	linktest.NeedKinds(t, "wireguard")
	far, c, _ := tunnelTo(t)
	var asked atomic.Int32
	known := make(chan struct{})
	k, _, _ := run(t, func(ctx context.Context, host string) ([]netip.Addr, error) {
		if asked.Add(1) == 1 {
			return nil, errors.New("no such host")
		}
		select {
		case <-known:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("10.9.0.1")}, nil
	})
	c.Peers[0].Endpoint = "peer.example:5000"
	k.Want([]Config{c})
	testenv.WaitFor(t, "the peer without an endpoint", func() bool {
		s := observe(t)
		return len(s.Peers) == 1 && !s.Peers[0].Endpoint.IsValid()
	})
	testenv.WaitFor(t, "the second question", func() bool { return asked.Load() == 2 })
	c.Port = 4321 // a change while a lookup is under way
	k.Want([]Config{c})
	testenv.WaitFor(t, "the port", func() bool { return observe(t).Port == 4321 })
	close(known)
	passes(t, far, "packets through the tunnel")
	k.Want([]Config{c})
	k.Want(nil)
	if n := asked.Load(); n != 2 {
		t.Errorf("the name was asked for %d times", n)
	}
}
