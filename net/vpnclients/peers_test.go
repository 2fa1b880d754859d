package vpnclients

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"resinos/mounts/testenv"
	"resinos/net/assignment"
	"resinos/net/link/linktest"
	"resinos/net/profilecheck"
	"resinos/net/wireguard"
	"resinos/net/wireguardserver"
)

// The first peer makes the server with a file that others cannot read, later changes keep its key; changes at once lose
// no peer; off removes the file, and says so if there is none.
func TestChangePeers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "connections")
	path := filepath.Join(dir, wireguardserver.File)
	profile, err := ChangePeers(dir, "h", "add", "first")
	if err != nil {
		t.Fatal(err)
	}
	of := func(profile string) string { // the public key of the server
		_, rest, _ := strings.Cut(profile, "PublicKey = ")
		key, _, _ := strings.Cut(rest, "\n")
		return key
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			later, err := ChangePeers(dir, "h", "add", fmt.Sprint("peer", i))
			if err != nil || of(later) != of(profile) {
				t.Errorf("the key of the server has changed, or %v", err)
			}
		})
	}
	work.Wait()
	if s, err := readPeers(path, false); err != nil || len(s.Peers()) != 9 {
		t.Errorf("peers %v, %v", s.Peers(), err)
	}
	if _, err := ChangePeers(dir, "h", "remove", "peer3"); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ args, want string }{
		{"", "it needs"}, {"add", "it needs"}, {"fly x", "it needs"}, {"add first", "already"},
		{"remove peer3", "no peer"},
	} {
		_, err := ChangePeers(dir, "h", strings.Fields(c.args)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
	if err := os.WriteFile(path, []byte("garbage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ChangePeers(dir, "h", "add", "x"); err == nil || !strings.Contains(err.Error(), "mend the file") {
		t.Errorf("with a spoilt file: %v", err)
	}
	if _, err := ChangePeers(dir, "", "off"); err != nil {
		t.Error(err)
	}
	for _, args := range [][]string{{"off"}, {"remove", "x"}} {
		_, err := ChangePeers(dir, "", args...)
		if err == nil || !strings.Contains(err.Error(), "no wireguard server") {
			t.Errorf("%q without a server: %v", args, err)
		}
	}
}

// The stock wg takes the profile of a peer, and reaches the device with it; a peer that is removed does not any more.
func TestStockPeer(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	linktest.NeedKinds(t, "wireguard")
	wg := testenv.NeedProgram(t, "wg")
	far := linktest.Cable(t, "w0")
	far.Address("192.0.2.2/24")
	far.Up()
	up(t, "w0", "192.0.2.1/24")
	dir := t.TempDir()
	profile, err := ChangePeers(dir, "192.0.2.1", "add", "laptop")
	if err != nil {
		t.Fatal(err)
	}
	keeper := serve(t)
	if err := netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: "wg-server"}}); err != nil {
		t.Fatal(err)
	}
	up(t, "wg-server", "10.9.0.1/24")
	keeper.Want(tunnels(t, dir))

	var conf []string // what "wg-quick strip" leaves: wg knows no addresses
	for line := range strings.Lines(profile) {
		if !strings.HasPrefix(line, "Address = ") {
			conf = append(conf, line)
		}
	}
	file := filepath.Join(t.TempDir(), "laptop.conf")
	if err := os.WriteFile(file, []byte(strings.Join(conf, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	far.Do(func() error {
		if err := netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: "laptop"}}); err != nil {
			return err
		}
		if out, err := exec.Command(wg, "setconf", "laptop", file).CombinedOutput(); err != nil {
			return fmt.Errorf("wg setconf: %w: %s", err, out)
		}
		return linkUp("laptop", "10.9.0.2/32", "10.9.0.1/32")
	})
	answers := echo(t, "10.9.0.1:7777")
	ask := func() (ok bool) {
		far.Do(func() error {
			c, err := net.Dial("udp4", "10.9.0.1:7777")
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(300 * time.Millisecond))
			c.Write([]byte("ping")) // one that is lost is sent again
			n, err := c.Read(make([]byte, 8))
			ok = err == nil && n == 4
			return nil
		})
		return ok
	}
	testenv.WaitFor(t, "an answer through the tunnel", ask)
	if from := <-answers; from != "10.9.0.2" {
		t.Errorf("the device sees the peer as %s", from)
	}
	if _, err := ChangePeers(dir, "", "remove", "laptop"); err != nil {
		t.Fatal(err)
	}
	keeper.Want(tunnels(t, dir))
	testenv.WaitFor(t, "no peer in the kernel", func() bool {
		s, err := wireguard.Observe("wg-server")
		return err == nil && len(s.Peers) == 0
	})
	if ask() {
		t.Error("a peer that was removed gets an answer")
	}
}

// tunnels returns what netd makes of the key file.
func tunnels(t *testing.T, dir string) []wireguard.Config {
	t.Helper()
	path := filepath.Join(dir, wireguardserver.File)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, warnings, err := profilecheck.Read(path, text)
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	return assignment.Tunnels([]assignment.Entry{{File: path, Profile: p}})
}

// serve runs a keeper until the test ends.
func serve(t *testing.T) *wireguard.Keeper {
	k := wireguard.NewKeeper(slog.New(slog.DiscardHandler))
	done := make(chan struct{})
	go func() { k.Run(t.Context()); close(done) }()
	t.Cleanup(func() { <-done })
	return k
}

func linkUp(name string, addresses ...string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	own, err := netlink.ParseAddr(addresses[0])
	if err != nil {
		return err
	}
	err = errors.Join(netlink.AddrAdd(l, own), netlink.LinkSetUp(l))
	for _, text := range addresses[1:] {
		to, bad := netlink.ParseIPNet(text)
		err = errors.Join(err, bad, netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: to}))
	}
	return err
}

func up(t *testing.T, name, address string) {
	t.Helper()
	if err := linkUp(name, address); err != nil {
		t.Fatal(err)
	}
}

// echo answers packets until the test ends, and tells who sent the first one.
func echo(t *testing.T, address string) <-chan string {
	t.Helper()
	ear, err := net.ListenPacket("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 64)
		for {
			n, from, err := ear.ReadFrom(b)
			if err != nil {
				return
			}
			select {
			case first <- from.(*net.UDPAddr).IP.String():
			default:
			}
			ear.WriteTo(b[:n], from) // the asker asks again
		}
	}()
	t.Cleanup(func() { ear.Close(); <-done })
	return first
}
