package netd

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
	"resinos/net/vpnclients"
)

// TestTunnelRates measures transfers through openvpn as the device runs it, and through Debian's openvpn with the
// settings of its manual, in turns, to the same stock client. It judges that both have the same cipher and that all
// bytes come; docs/bench.md has the figures.
func TestTunnelRates(t *testing.T) {
	if !testenv.Figures() {
		t.Skip("set RESINOS_BENCH=1: make bench-tunnels")
	}
	testenv.NeedPrograms(t, "openvpn")
	if !linktest.Isolate(t) {
		return
	}
	const rounds, size = 15, 64 << 20
	d := keyed(t)
	d.startsVPN()
	d.put("uplink", static)
	d.start()
	d.has("w0", "10.9.0.50/24")
	ours, err := vpnclients.Change(d.keyFiles, "10.9.0.50", "add", "laptop")
	if err != nil {
		t.Fatal(err)
	}
	server, client := newPair(t, "server", time.Now().Add(-time.Hour)), newPair(t, "client", time.Now().Add(-time.Hour))
	pair := func(own, other pair) string {
		return fmt.Sprintf("<cert>\n%s</cert>\n<key>\n%s</key>\n<peer-fingerprint>\n%s\n</peer-fingerprint>\n",
			own.cert, own.key, other.fingerprint)
	}
	stock := exec.Command("openvpn", "--config", "stdin")
	stock.Stdin = strings.NewReader("port 1195\nproto udp\ndev tun\nserver 10.6.0.0 255.255.255.0\ntopology subnet\n" +
		"dh none\nkeepalive 10 60\npersist-key\npersist-tun\n" + pair(server, client))
	launch(t, stock)
	if err := linktest.Stream(t, ":98", size); err != nil {
		t.Fatal(err)
	}
	join := func(profile, name string) (cipher string) {
		cmd := exec.Command("openvpn", "--config", "stdin", "--connect-retry", "1", "2", "--hand-window", "5",
			"--dev", name, "--verb", "4")
		cmd.Stdin = strings.NewReader(profile)
		var out testenv.Log
		cmd.Stdout = &out
		d.far.Start(cmd)
		d.eventually(name+" joins", func() bool {
			return strings.Contains(out.String(), "Initialization Sequence Completed")
		})
		_, cipher, _ = strings.Cut(out.String(), "Outgoing Data Channel: ")
		cipher, _, _ = strings.Cut(cipher, "\n")
		return cipher
	}
	mine := join(ours, "tun71")
	theirs := join("client\nproto udp\nremote 10.9.0.50 1195\nnobind\n"+pair(client, server), "tun72")
	if mine != theirs || mine == "" {
		t.Errorf("ciphers %q and %q", mine, theirs)
	}
	rates := map[string]linktest.Rates{}
	for range rounds {
		for name, address := range map[string]string{"ours": "10.8.0.1", "stock": "10.6.0.1", "none": "10.9.0.50"} {
			d.far.Do(func() error {
				rate, err := linktest.Receive(address+":98", size)
				rates[name] = append(rates[name], rate)
				return err
			})
		}
	}
	t.Logf("%s", mine)
	for name, r := range rates {
		t.Logf("openvpn, %-5s %s", name, r)
	}
}
