package forward

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"resinos/mounts/testenv"
	"resinos/net/resolv"
)

// dnsmasq starts Debian's dnsmasq as a name server on an address of loopback.
func dnsmasq(t *testing.T, address string, args ...string) {
	t.Helper()
	path := testenv.NeedProgram(t, "dnsmasq")
	cmd := exec.Command(path, append([]string{"--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts",
		"--no-resolv", "--user=root", "--pid-file=", "--bind-interfaces", "--listen-address=" + address}, args...)...)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() // it may be gone already
		cmd.Wait()
	})
	testenv.WaitFor(t, "dnsmasq serves", func() bool {
		conn, err := net.Dial("tcp", net.JoinHostPort(address, "53"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// TestDnsmasq: a real server behind us, with all kinds of records that it knows.
func TestDnsmasq(t *testing.T) {
	if !isolate(t) {
		return
	}
	long := strings.Repeat("x", 200)
	dnsmasq(t, "127.0.0.10", "--host-record=a.lab.example,192.0.2.1,2001:db8::1",
		"--cname=c.lab.example,a.lab.example", "--mx-host=lab.example,a.lab.example,10",
		"--srv-host=_x._tcp.lab.example,a.lab.example,99", "--txt-record=t.lab.example,"+long+","+long+","+long,
		"--local=/lab.example/", "--dns-loop-detect", "--local-ttl=60")
	start(t, Config{}, resolv.Source{Link: "eth0", Servers: []netip.Addr{netip.MustParseAddr("127.0.0.10")}})
	direct := func(network, name string, kind uint16) *dns.Msg {
		client := dns.Client{Net: network, Timeout: testenv.Patience()}
		m, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, kind), "127.0.0.10:53")
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	text := func(m *dns.Msg) string {
		var out []string
		for _, rr := range m.Answer {
			out = append(out, strings.ToLower(rr.String()))
		}
		slices.Sort(out)
		return dns.RcodeToString[m.Rcode] + "\n" + strings.Join(out, "\n")
	}
	for _, c := range []struct {
		name string
		kind uint16
	}{
		{"a.lab.example.", dns.TypeA}, {"a.lab.example.", dns.TypeAAAA}, {"c.lab.example.", dns.TypeA},
		{"lab.example.", dns.TypeMX}, {"_x._tcp.lab.example.", dns.TypeSRV}, {"t.lab.example.", dns.TypeTXT},
		{"1.2.0.192.in-addr.arpa.", dns.TypePTR}, {"none.lab.example.", dns.TypeA}, {"a.lab.example.", dns.TypeTXT},
	} {
		for range 2 { // from the server, and kept
			got, want := text(exchange(t, "tcp", c.name, c.kind)), text(direct("tcp", c.name, c.kind))
			if got != want {
				t.Errorf("%s type %d:\n%s\nwant\n%s", c.name, c.kind, got, want)
			}
		}
	}
}

// asForwarder makes the test binary a forwarder; its value is the server that it asks.
const asForwarder = "RESINOS_TEST_FORWARDER"

func TestMain(m *testing.M) {
	server := os.Getenv(asForwarder)
	if server == "" {
		os.Exit(m.Run())
	}
	packets, streams, err := Listen(netip.AddrPortFrom(Address, port), nil)
	if err == nil {
		f := New(Config{Packets: packets, Streams: streams})
		f.Set([]resolv.Source{{Link: "eth0", Servers: []netip.Addr{netip.MustParseAddr(server)}}})
		err = f.Run(context.Background()) // until it is killed
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestFigures compares us with dnsmasq as a forwarder, both before the same server and with all answers kept.
func TestFigures(t *testing.T) {
	if !isolate(t) {
		return
	}
	serve(t, "127.0.0.10", with("192.0.2.1", 3600))
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asForwarder+"=127.0.0.10")
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() // it may be gone already
		cmd.Wait()
	})
	testenv.WaitFor(t, "the forwarder serves", func() bool {
		conn, err := net.Dial("tcp", "127.0.0.2:53")
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	dnsmasq(t, "127.0.0.3", "--server=127.0.0.10", "--cache-size=4000", "--dns-forward-max=1000")
	count := 4000
	if testenv.Figures() {
		count = 200_000
	}
	for range 3 {
		for _, c := range []struct{ name, address string }{{"ours", "127.0.0.2:53"}, {"dnsmasq", "127.0.0.3:53"}} {
			all, took := load(t, c.address, count)
			slices.Sort(all)
			rate, p99 := float64(len(all))/took.Seconds(), all[len(all)*99/100]
			t.Logf("%s: %.0f questions a second, median %s, p99 %s", c.name, rate, all[len(all)/2], p99)
			if c.name == "ours" {
				text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", cmd.Process.Pid))
				_, private, _ := strings.Cut(string(text), "Anonymous:")
				private, _, _ = strings.Cut(private, "\n")
				t.Logf("ours: anonymous memory %s", strings.TrimSpace(private))
			}
			if c.name == "ours" && testenv.Figures() && rate < 20000 {
				t.Errorf("%.0f questions a second, want 20000", rate)
			}
		}
	}
}

// load asks for 500 names again and again, with eight clients that each wait for their answer.
func load(t *testing.T, address string, count int) ([]time.Duration, time.Duration) {
	t.Helper()
	const clients = 8
	all := make([][]time.Duration, clients)
	began := time.Now()
	var work sync.WaitGroup
	for c := range clients {
		work.Go(func() {
			conn, err := net.Dial("udp", address)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			buf := make([]byte, 1500)
			for i := range count / clients {
				m := new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.example.", i%500), dns.TypeA)
				p, _ := m.Pack()
				asked := time.Now()
				conn.SetReadDeadline(asked.Add(testenv.Patience()))
				if _, err := conn.Write(p); err != nil {
					t.Error(err)
					return
				}
				if n, err := conn.Read(buf); err != nil || n < len(p) {
					t.Errorf("answer of %d bytes, %v", n, err)
					return
				}
				all[c] = append(all[c], time.Since(asked))
			}
		})
	}
	work.Wait()
	return slices.Concat(all...), time.Since(began)
}
