package vpnclients

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
)

// size is how many bytes a transfer has: the device of net_rates is an emulated one.
const size = 8 << 20

// TestPeerRates measures transfers through a wireguard server as the device has it, and through one that is set up
// with the stock wg as wg-quick(8) does it, in turns, to stock peers. It judges that both have the same MTU and that
// all bytes come; docs/bench.md has the figures. The boot story net_rates runs it, because the kernel of the host may
// lack wireguard.
func TestPeerRates(t *testing.T) {
	if !testenv.Figures() {
		t.Skip("set RESINOS_BENCH=1: make bench-tunnels")
	}
	if !linktest.Isolate(t) {
		return
	}
	linktest.NeedKinds(t, "wireguard")
	wg := testenv.NeedProgram(t, "wg")
	far := linktest.Cable(t, "w0")
	far.Address("192.0.2.2/24")
	far.Up()
	up(t, "w0", "192.0.2.1/24")
	up(t, "lo", "127.0.0.1/8")
	dir := t.TempDir()
	profile, err := ChangePeers(dir, "192.0.2.1", "add", "laptop")
	if err != nil {
		t.Fatal(err)
	}
	keeper := serve(t)
	for _, name := range []string{"wg-server", "wg0"} {
		if err := netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	up(t, "wg-server", "10.9.0.1/24")
	keeper.Want(tunnels(t, dir))

	secret, public := keys(t, wg)
	peerSecret, peerPublic := keys(t, wg)
	setconf := func(link, text string) error {
		file := filepath.Join(dir, link+".conf")
		err := os.WriteFile(file, []byte(text), 0o600)
		out, bad := exec.Command(wg, "setconf", link, file).CombinedOutput()
		if err = errors.Join(err, bad); err != nil {
			return fmt.Errorf("wg setconf %s: %w: %s", link, err, out)
		}
		return nil
	}
	err = setconf("wg0", fmt.Sprintf("[Interface]\nPrivateKey = %s\nListenPort = 51821\n[Peer]\nPublicKey = %s\n"+
		"AllowedIPs = 10.6.0.2/32\n", secret, peerPublic))
	if err != nil {
		t.Fatal(err)
	}
	up(t, "wg0", "10.6.0.1/24")
	mtu := func(link string) int { // wg-quick: that of the link to the peer without 80
		l, err := netlink.LinkByName(link)
		if err != nil {
			t.Fatal(err)
		}
		return l.Attrs().MTU
	}
	if ours, stock := mtu("wg-server"), mtu("wg0"); ours != stock {
		t.Errorf("MTU %d and %d", ours, stock)
	}
	far.Do(func() error {
		for _, name := range []string{"laptop", "phone"} {
			if err := netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
				return err
			}
		}
		var conf []string
		for line := range strings.Lines(profile) {
			if !strings.HasPrefix(line, "Address = ") {
				conf = append(conf, line)
			}
		}
		phone := fmt.Sprintf("[Interface]\nPrivateKey = %s\n[Peer]\nPublicKey = %s\nEndpoint = 192.0.2.1:51821\n"+
			"AllowedIPs = 10.6.0.1/32\n", peerSecret, public)
		return errors.Join(setconf("laptop", strings.Join(conf, "")), setconf("phone", phone),
			linkUp("laptop", "10.9.0.2/32", "10.9.0.1/32"), linkUp("phone", "10.6.0.2/32", "10.6.0.1/32"))
	})
	if err := linktest.Stream(t, ":98", size); err != nil {
		t.Fatal(err)
	}
	rates := map[string]linktest.Rates{}
	for range 15 {
		for name, address := range map[string]string{"ours": "10.9.0.1", "stock": "10.6.0.1", "none": "192.0.2.1"} {
			far.Do(func() error {
				rate, err := linktest.Receive(address+":98", size)
				rates[name] = append(rates[name], rate)
				return err
			})
		}
	}
	for name, r := range rates {
		t.Logf("wireguard, %-5s %s", name, r)
	}
}

// keys returns a private key and its public one.
func keys(t *testing.T, wg string) (private, public string) {
	t.Helper()
	private = strings.TrimSpace(testenv.Run(t, wg, "genkey"))
	cmd := exec.Command(wg, "pubkey")
	cmd.Stdin = strings.NewReader(private + "\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return private, strings.TrimSpace(string(out))
}
