package netd

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
	"resinos/net/netcontrol"
	"resinos/net/netstate"
	"resinos/net/openvpn"
	"resinos/net/profile"
	"resinos/net/vpnclients"
	"resinos/net/vpnserver"
)

// pair is a certificate that nobody else has signed, with its key.
type pair struct{ cert, key, fingerprint string }

func newPair(t *testing.T, name string, from time.Time) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: from,
		NotAfter: from.AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return pair{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), openvpn.Fingerprint(sum[:])}
}

// starter stands for PID 1: each connection to its socket is an openvpn of Debian.
type starter struct {
	processes chan *exec.Cmd
	log       *logBuffer
}

func (d *device) startsVPN() *starter {
	d.t.Helper()
	testenv.NeedProgram(d.t, "openvpn")
	s := &starter{processes: make(chan *exec.Cmd, 100), log: &logBuffer{}}
	listener, err := net.Listen("unix", filepath.Join(d.dir, "vpn.sock"))
	if err != nil {
		d.t.Fatal(err)
	}
	d.vpn = filepath.Join(d.dir, "vpn")
	d.t.Cleanup(func() {
		listener.Close()
		if d.t.Failed() {
			d.t.Logf("log of openvpn:\n%s", s.log)
		}
	})
	go func() { // ends with the listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			stdin, err := conn.(*net.UnixConn).File()
			if err != nil {
				return
			}
			cmd := exec.Command("openvpn", "--config", "stdin")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, s.log, s.log
			if err := cmd.Start(); err != nil {
				return
			}
			stdin.Close()
			conn.Close()
			s.processes <- cmd
			go cmd.Wait() // ends with the process
		}
	}()
	return s
}

// farVPN starts Debian's openvpn as a server at the far end.
func (d *device) farVPN(server, client pair, more string) *exec.Cmd {
	d.t.Helper()
	check := filepath.Join(d.dir, "check")
	if err := os.WriteFile(check, []byte("#!/bin/sh\ntest \"$(cat $1)\" = 'me\nr\"i\\g h;t$'\n"), 0o755); err != nil {
		d.t.Fatal(err)
	}
	config := fmt.Sprintf(`mode server
tls-server
dev tun
topology subnet
ifconfig 10.77.0.1 255.255.255.0
ifconfig-pool 10.77.0.10 10.77.0.20 255.255.255.0
push "topology subnet"
push "route-gateway 10.77.0.1"
push "dhcp-option DNS 10.77.0.1"
push "dhcp-option DOMAIN corp.example"
keepalive 1 5
dh none
script-security 2
auth-user-pass-verify %s via-file
%s
<cert>
%s</cert>
<key>
%s</key>
<peer-fingerprint>
%s
</peer-fingerprint>
`, check, more, server.cert, server.key, client.fingerprint)
	cmd := exec.Command("openvpn", "--config", "stdin")
	cmd.Stdin = strings.NewReader(config)
	var out logBuffer
	cmd.Stdout = &out
	d.far.Start(cmd)
	d.t.Cleanup(func() {
		if d.t.Failed() {
			d.t.Logf("log of the server:\n%s", &out)
		}
	})
	d.eventually("the server serves", func() bool {
		return strings.Contains(out.String(), "Initialization Sequence Completed")
	})
	return cmd
}

// vpnState returns what osctl net shows of a profile.
func (d *device) vpnState(file string) string {
	s, _ := netcontrol.Client{Socket: d.control}.Status(d.t.Context()) // without an answer there is no state
	for _, p := range s.Profiles {
		if p.File == file {
			return p.State + p.Error
		}
	}
	return ""
}

// pings reports whether a packet gets through to an address and back: its host refuses a connection.
func pings(address string) bool {
	_, err := net.DialTimeout("tcp", address+":9", testenv.Patience()/10) // a packet may be lost
	return errors.Is(err, unix.ECONNREFUSED)
}

func ovpn(server, client pair, password string) string {
	return fmt.Sprintf(`client
dev tun
remote 10.9.0.1 1194 udp
persist-tun
<auth-user-pass>
me
%s
</auth-user-pass>
<cert>
%s</cert>
<key>
%s</key>
<peer-fingerprint>
%s
</peer-fingerprint>
`, password, client.cert, client.key, server.fingerprint)
}

// A file .ovpn brings its tunnel up: address, routes and name servers are the server's, packets get through. A wrong
// password is told as such and the right one helps. An openvpn or a server that dies is followed by another one, a netd
// that ends leaves the tunnel as it is, and with the file everything goes.
func TestTunnel(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	d.control = filepath.Join(d.dir, "net.sock")
	started := d.startsVPN()
	server, client := newPair(t, "server", time.Now().Add(-time.Hour)), newPair(t, "client", time.Now().Add(-time.Hour))
	far := d.farVPN(server, client, "push \"route 10.66.0.0 255.255.0.0\"\n")
	const password = `r"i\g h;t$`
	d.put("uplink", static)
	d.put("office.ovpn", ovpn(server, client, "wrong"))
	d.start()
	d.eventually("the wrong password is told", func() bool {
		return strings.Contains(d.vpnState("office.ovpn"), "the server has refused the user name or password")
	})
	d.put("office.ovpn", ovpn(server, client, password))
	d.eventually("the tunnel is up", func() bool {
		return d.vpnState("office.ovpn") == "connected to 10.9.0.1 port 1194"
	})
	link := openvpn.LinkName("office.ovpn", profile.Profile{})
	d.has(link, "10.77.0.10/24")
	d.eventually("the routes", func() bool {
		return slices.Equal(linktest.Routes(t, link), []string{"10.66.0.0/16", "10.77.0.0/24"})
	})
	d.eventually("a ping through the tunnel", func() bool { return pings("10.77.0.1") })
	d.eventually("the name server", func() bool {
		return strings.Contains(d.resolv(), "search corp.example office.example\nnameserver 10.77.0.1\n")
	})
	for text, where := range map[string]string{d.log.String(): "netd", started.log.String(): "openvpn"} {
		if strings.Contains(text, password) || strings.Contains(text, strings.Split(client.key, "\n")[1]) {
			t.Errorf("the log of %s has a secret", where)
		}
	}

	// netd ends and starts again: the process is the same.
	count := len(started.processes)
	d.stop()
	if got := linktest.Addresses(t, link); !slices.Equal(got, []string{"10.77.0.10/24"}) {
		t.Errorf("after the end of netd %s has the addresses %q", link, got)
	}
	d.start()
	d.eventually("the next netd knows the tunnel", func() bool {
		return d.vpnState("office.ovpn") == "connected to 10.9.0.1 port 1194"
	})
	if !pings("10.77.0.1") || len(started.processes) != count {
		t.Errorf("the next netd started openvpn again, or nothing gets through: %d processes", len(started.processes))
	}

	// openvpn dies.
	var last *exec.Cmd
	for len(started.processes) > 0 {
		last = <-started.processes
	}
	if err := last.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	testenv.Receive(t, "another openvpn", started.processes)
	d.eventually("a ping after the death of openvpn", func() bool { return pings("10.77.0.1") })

	// The server goes and comes back.
	if err := far.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.eventually("the tunnel is down, and says why", func() bool {
		return strings.HasPrefix(d.vpnState("office.ovpn"), "connecting: ")
	})
	d.farVPN(server, client, "push \"redirect-gateway def1\"\n")
	d.eventually("everything goes through the tunnel", func() bool {
		out, err := exec.Command("ip", "route", "get", "192.0.2.1").CombinedOutput()
		return err == nil && strings.Contains(string(out), "dev "+link) && pings("10.77.0.1")
	})

	if err := os.Remove(filepath.Join(d.keyFiles, "office.ovpn")); err != nil {
		t.Fatal(err)
	}
	d.eventually("no link, no rule, no file", func() bool {
		out, err := exec.Command("ip", "rule").Output()
		_, gone := net.InterfaceByName(link)
		left, _ := os.ReadDir(d.vpn) // it may be gone
		return gone != nil && err == nil && !bytes.Contains(out, []byte("31598")) && len(left) == 0
	})
}

// The device is a server after one command: a client of Debian gets in with the profile that the command prints, the
// port is known to the packet filter, a client that was removed gets in no more, and without the file nobody does.
func TestVPNServer(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	testenv.NeedPrograms(t, "openvpn")
	d := keyed(t)
	d.control = filepath.Join(d.dir, "net.sock")
	states := make(chan netstate.State, 1000)
	d.changed = func(s netstate.State) { states <- s }
	d.startsVPN()
	d.put("uplink", static)
	d.start()
	d.has("w0", "10.9.0.50/24")
	d.eventually("netd answers", func() bool { return d.vpnState("uplink") != "" })
	change := func(args ...string) (profile string) {
		t.Helper()
		profile, err := vpnclients.Change(d.keyFiles, "10.9.0.50", args...)
		if err != nil {
			t.Fatal(err)
		}
		return profile
	}
	ovpn := change("add", "laptop")
	d.eventually("the server serves", func() bool { return d.vpnState(vpnserver.File) == "serves at UDP port 1194" })
	link := openvpn.LinkName(vpnserver.File, profile.Profile{})
	d.has(link, "10.8.0.1/24")
	for open := false; !open; {
		for _, l := range testenv.Receive(t, "the port for the packet filter", states).Links {
			open = open || l.Name == link && l.Listens == 1194 && l.Tunnel
		}
	}
	client := exec.Command("openvpn", "--config", "stdin", "--connect-retry", "1", "2", "--hand-window", "5")
	client.Stdin = strings.NewReader(ovpn)
	var out logBuffer
	client.Stdout = &out
	d.far.Start(client)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the client:\n%s", &out)
		}
	})
	joined := func() int { return strings.Count(out.String(), "Initialization Sequence Completed") }
	d.eventually("the client gets in", func() bool { return joined() == 1 })
	d.eventually("a packet gets to the client and back", func() bool { return pings("10.8.0.2") })

	// A second client: the first one is in again soon, because the server says that it starts again.
	change("add", "phone")
	d.eventually("the client gets in again", func() bool { return joined() == 2 })

	change("remove", "laptop")
	d.eventually("the client is refused", func() bool {
		_, after, _ := strings.Cut(out.String(), "Initialization Sequence Completed")
		_, after, again := strings.Cut(after, "Initialization Sequence Completed")
		return again && strings.Contains(after, "TLS Error")
	})
	change("off")
	d.eventually("the link is gone", func() bool {
		_, err := net.InterfaceByName(link)
		return err != nil
	})
}
