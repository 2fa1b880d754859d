package netcommand

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/mounts/packed"
	"resinos/mounts/testenv"
	"resinos/net/keyimport"
	"resinos/net/netcontrol"
	"resinos/net/profilecheck"
	"resinos/services/control"
)

// answering returns a device on which a netd answers from memory.
func answering(t *testing.T) (root string) {
	t.Helper()
	root = clitest.Device(t)
	status := netcontrol.Status{
		Links: []netcontrol.Link{
			{Name: "lo", Kind: "loopback", Up: true, Carrier: true, MTU: 65536},
			{Name: "eth0", Kind: "wired", Up: true, Carrier: true, Managed: true, MTU: 1500, File: "office",
				Profile: "office", Method: "manual", Addresses: []string{"192.168.1.50/24", "fe80::1/64"},
				Routes: []string{"default via 192.168.1.1 metric 102"},
				Notes:  []string{"[ipv6] method=dhcp has no client yet"}, Reach: "portal", Lowered: true,
				ReachReason: "redirected to \"http://portal.example\"\x1b"},
			{Name: "eth1", Kind: "wired", Up: true, Managed: true, Method: "dhcp",
				Error: "eth1: put route\x1b[2J: refused"},
			{Name: "eth2", Kind: "wired", Up: true, Carrier: true, Managed: true, Method: "shared",
				Addresses: []string{"10.42.0.1/24"}, Prefixes: []string{"2001:db8:f00::/64 of the prefix of eth0"},
				Guests: []netcontrol.Guest{
					{Address: "10.42.0.20", Hardware: "02:00:00:00:00:01", Name: "printer"},
					{Address: "10.42.0.21", Hardware: "02:00:00:00:00:02"}}},
			{Name: "veth1", Kind: "virtual", Up: true, Carrier: true},
			{Name: "wg0", Kind: "virtual", Up: true, Carrier: true, Managed: true, Profile: "home", Method: "manual",
				Addresses: []string{"10.8.0.2/24"}, Peers: []netcontrol.Peer{
					{Key: "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", Endpoint: "192.0.2.7:51820", Received: 4096,
						Sent: 1 << 20, Handshake: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)},
					{Key: "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA="}}},
		},
		Profiles: []netcontrol.Profile{
			{File: "office", ID: "office", Type: "802-3-ethernet", State: "in force on eth0", Links: []string{"eth0"},
				Warnings: []string{"office:7: [ipv4] dns: a server is ignored: not an address of this family"}},
			{File: "cafe", ID: "Café", Type: "802-11-wireless", State: "waits: 802-11-wireless has no driver yet"},
			{File: "broken", State: "refused", Error: "broken: line 3: neither a key, a group nor a comment"},
			{File: "lan", ID: "lan", Type: "vlan", State: "no link is there for it", Fault: "waits for the link eth7"},
			{File: "spoilt", ID: "spoilt", State: "in force on eth2",
				Error: "spoilt: [ipv4] method: manual needs an address"},
		},
		Servers: []string{"192.168.1.1"},
		Filter: []netcontrol.Rules{{File: "10-shop.nft", Tables: []string{"inet shop", "ip x"}},
			{File: "20-bad.nft", Error: "/etc/resinos/nftables.d/20-bad.nft:3:7-10: Error: syntax error"}},
		Faults: []string{"give out addresses on eth2: address already in use"},
	}
	plan := []netcontrol.Planned{
		{File: "office", Link: "eth0", Steps: []string{"eth0: put address 192.168.1.50/24 valid forever"},
			Left: []string{"x"}},
		{File: "other"},
	}
	handlers := map[string]control.Handler{
		netcontrol.OpStatus: func(context.Context, json.RawMessage) (any, error) { return status, nil },
		netcontrol.OpPlan:   func(context.Context, json.RawMessage) (any, error) { return plan, nil },
		netcontrol.OpReload: func(context.Context, json.RawMessage) (any, error) { return nil, nil },
		netcontrol.OpUp: func(_ context.Context, args json.RawMessage) (any, error) {
			return nil, &control.Error{Text: "no link has the profile " + string(args), Hint: "try: osctl net"}
		},
		netcontrol.OpWireGuardKey: func(context.Context, json.RawMessage) (any, error) {
			return netcontrol.KeyPair{Private: "PRIVATE", Public: "PUBLIC"}, nil
		},
		netcontrol.OpDown: func(context.Context, json.RawMessage) (any, error) { return nil, nil },
	}
	path := filepath.Join(root, netcontrol.SocketPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, path, handlers, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() { stop(); <-done })
	testenv.WaitFor(t, "the socket", func() bool {
		_, err := netcontrol.Client{Socket: path}.Status(t.Context())
		return err == nil
	})
	return root
}

func TestNet(t *testing.T) {
	main := clitest.Commands(map[string]cli.Run{"net": Show})
	place := clitest.Place{Main: main, Root: answering(t)}
	var b strings.Builder
	for _, line := range []string{
		"net", "net --json", "net plan", "net reload", "net down office", "net up cafe",
		"net down -n office", "net fly", "net up", "net wireguard-key", "net wireguard-key -n", "net wireguard-key a b",
		"net add -n office",
		"net add -n --link eth0 --address 192.168.1.50/24 --gateway 192.168.1.1 --dns 1.1.1.1,9.9.9.9 office",
		"net add -n --address 2001:db8::5/64 --dns 2001:db8::1 six", "net add --address nonsense x",
		"net add --gateway 1.1.1.1 x",
		"net add --dns 1.1.1.1,::1 x", "net add ../x", "net add x~",
	} {
		fmt.Fprintln(&b, place.Call(t, strings.Fields(line)...))
	}
	nobody := clitest.Place{Main: main}
	fmt.Fprintf(&b, "nobody answers\n%s\n", nobody.Call(t, "net"))
	testenv.Golden(t, "net.golden", b.String())
}

// What net add writes is a profile that is accepted, and what is there already stays.
func TestAdd(t *testing.T) {
	place := clitest.Place{Main: clitest.Commands(map[string]cli.Run{"net": Show}), Root: clitest.Device(t)}
	if err := os.MkdirAll(filepath.Join(place.Root, keyimport.To), 0o700); err != nil {
		t.Fatal(err)
	}
	args := []string{"net", "add", "--link", "eth0", "--address", "10.0.0.5/24", "--gateway", "10.0.0.1",
		"--dns", "1.1.1.1", "my office"}
	if code, _, messages := place.Do(t, args...); code != 0 {
		t.Fatal(messages)
	}
	path := filepath.Join(place.Root, keyimport.To, "my office.nmconnection")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, warnings, err := profilecheck.Read("my office", text)
	if err != nil || len(warnings) > 0 || p.Connection.ID != "my office" || p.IPv4.Gateway != "10.0.0.1" {
		t.Errorf("%s\n%v, %v", text, warnings, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if code, _, _ := place.Do(t, args...); code == 0 {
		t.Error("the file was replaced")
	}
}

// The private key goes into the file and nowhere else; a file that is there already stays.
func TestWireGuardKey(t *testing.T) {
	place := clitest.Place{Main: clitest.Commands(map[string]cli.Run{"net": Show}), Root: answering(t)}
	path := filepath.Join(t.TempDir(), "key")
	code, out, messages := place.Do(t, "net", "wireguard-key", path)
	if code != 0 || out != "PUBLIC\n" || messages != "" {
		t.Errorf("%d, %q, %q", code, out, messages)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "PRIVATE\n" {
		t.Errorf("the file has %q, %v", text, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	code, _, messages = place.Do(t, "net", "wireguard-key", path)
	if code != 1 || !strings.Contains(messages, "there already") {
		t.Errorf("%d, %q", code, messages)
	}
	code, out, messages = place.Do(t, "net", "wireguard-key", "/proc/nothing/key")
	if code != 1 || out != "" || !strings.Contains(messages, "name a file in a directory that can be written") {
		t.Errorf("%d, %q, %q", code, out, messages)
	}
}

// The packed program carries out what was typed: it gets directory, endpoint and words, its output and exit status are
// those of the command. A program that cannot be started is an error with its path.
func TestVPNServer(t *testing.T) {
	place := clitest.Place{Main: clitest.Commands(map[string]cli.Run{"net": Show}), Root: clitest.Device(t)}
	code, _, messages := place.Do(t, "net", "vpn-server", "off")
	path := filepath.Join(place.Root, packed.Path("tools"), "vpn-server")
	if code != 1 || !strings.Contains(messages, path) {
		t.Errorf("without the program: %d, %q", code, messages)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	const script = "#!/bin/sh\necho \"$*\"\n" +
		"[ \"$7\" != nobody ] || { echo 'no client is called so' >&2; exit 1; }\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(place.Root, keyimport.To)
	for _, c := range []struct {
		args, out, messages string
		code                int
	}{
		{"add --endpoint example.com laptop", "--dir " + dir + " --endpoint example.com -- add laptop\n", "", 0},
		{"remove laptop", "--dir " + dir + " --endpoint  -- remove laptop\n", "", 0},
		{"remove nobody", "--dir " + dir + " --endpoint  -- remove nobody\n", "no client is called so\n", 1},
		{"off", "--dir " + dir + " --endpoint  -- off\n", "", 0},
		{"-n off", "vpn-server off\n", "", 0},
	} {
		code, out, messages := place.Do(t, append([]string{"net", "vpn-server"}, strings.Fields(c.args)...)...)
		if code != c.code || out != c.out || messages != c.messages {
			t.Errorf("%s: %d, %q, %q", c.args, code, out, messages)
		}
	}
	for _, args := range []string{"", "add", "fly x", "off x"} {
		code, _, messages := place.Do(t, append([]string{"net", "vpn-server"}, strings.Fields(args)...)...)
		if code != 2 {
			t.Errorf("%q: %d: %s", args, code, messages)
		}
	}
}
