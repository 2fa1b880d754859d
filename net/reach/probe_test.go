package reach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
)

// uplink connects a link here with a router of its own, behind which the internet is: the address that check.example
// has everywhere, 203.0.113.1 and 2001:db8:ff::1, with what serves it.
func uplink(t *testing.T, name string, n int, serve http.Handler) (Uplink, *linktest.Far) {
	t.Helper()
	far := linktest.Cable(t, name)
	router, router6 := fmt.Sprintf("10.%d.0.1", n), fmt.Sprintf("fd00:%d::1", n)
	for _, a := range []string{router + "/24", router6 + "/64", "203.0.113.1/32", "2001:db8:ff::1/128"} {
		far.Address(a)
	}
	far.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetUp(lo),
			os.WriteFile("/proc/sys/net/ipv6/conf/"+far.Name+"/accept_dad", []byte("0"), 0))
	})
	far.Up()
	l, err := netlink.LinkByName(name)
	check(t, err)
	check(t, os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0))
	check(t, os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/rp_filter", []byte("2"), 0))
	check(t, netlink.LinkSetUp(l))
	for _, text := range []string{fmt.Sprintf("10.%d.0.2/24", n), fmt.Sprintf("fd00:%d::2/64", n)} {
		a, _ := netlink.ParseAddr(text)
		check(t, netlink.AddrAdd(l, a))
	}
	for _, gateway := range []string{router, router6} {
		route := &netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(gateway), Priority: 100 + n}
		check(t, netlink.RouteAdd(route))
	}
	if serve != nil {
		far.Do(func() error {
			listener, err := net.Listen("tcp", ":80")
			if err != nil {
				return err
			}
			server := &http.Server{Handler: serve}
			go server.Serve(listener)
			t.Cleanup(func() { server.Close() })
			return nil
		})
	}
	u := Uplink{Index: l.Attrs().Index, Name: name, Metric: 100 + n, Four: true}
	u.Hardware = l.Attrs().HardwareAddr.String()
	u.Gateways = []netip.Addr{netip.MustParseAddr(router)}
	u.Servers = []netip.Addr{netip.MustParseAddr(router)}
	return u, far
}

// names starts a real name server at a router. Every name has the address of the internet.
func names(t *testing.T, far *linktest.Far, args ...string) {
	t.Helper()
	args = append([]string{"--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--no-resolv",
		"--no-hosts", "--bind-dynamic", "--log-facility=-"}, args...)
	far.Start(exec.Command(testenv.NeedProgram(t, "dnsmasq"), args...))
	testenv.WaitFor(t, "the name server", func() (up bool) {
		far.Do(func() error {
			c, err := net.Dial("tcp", "127.0.0.1:53")
			if err == nil {
				c.Close()
			}
			up = err == nil
			return nil
		})
		return up
	})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func isolate(t *testing.T) bool {
	if !linktest.Isolate(t) {
		return false
	}
	lo, err := netlink.LinkByName("lo")
	check(t, err)
	check(t, netlink.LinkSetUp(lo))
	return true
}

func status(code int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
}

func target(t *testing.T, uri, response string) Target {
	t.Helper()
	out, err := ParseTarget(uri, "", response, 0)
	check(t, err)
	return out
}

func wantState(t *testing.T, u Uplink, to Target, want State, reason string) {
	t.Helper()
	got := Probe(context.Background(), u, to)
	if got.State != want || !strings.Contains(got.Reason, reason) {
		t.Errorf("reach of %s: %s (%s), want %s (%s)", u.Name, got.State, got.Reason, want, reason)
	}
}

func TestProbeAnswers(t *testing.T) {
	t.Parallel()
	if !isolate(t) {
		return
	}
	mux := http.NewServeMux()
	mux.Handle("/204", status(204))
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("all is well\n")) })
	mux.Handle("/portal", http.RedirectHandler("http://portal.example/login", http.StatusFound))
	mux.Handle("/secure", http.RedirectHandler("https://check.example/secure", http.StatusMovedPermanently))
	mux.Handle("/busy", status(503))
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	u, far := uplink(t, "w0", 1, mux)
	names(t, far, "--address=/check.example/203.0.113.1", "--address=/six.example/2001:db8:ff::1")
	for _, tt := range []struct {
		path, response string
		want           State
		reason         string
	}{
		{"check.example/204", "", Full, ""},
		{"203.0.113.1/204", "", Full, ""},
		{"check.example/ok", "all is well", Full, ""},
		{"check.example/ok", "all is lost", Portal, "status 200"},
		{"check.example/portal", "", Portal, `redirected to "http://portal.example/login"`},
		{"check.example/busy", "", Limited, "503"},
		{"check.example/endless", "", Portal, "status 200"},
		{"check.example/silent", "", Limited, "answers nothing"},
		{"check.example:81/", "", Limited, "nothing listens"},
		{"nowhere.example/", "", Limited, "name"},
		{"six.example/204", "", Limited, "family"},
	} {
		wantState(t, u, target(t, "http://"+tt.path, tt.response), tt.want, tt.reason)
	}
	wantState(t, u, target(t, "https://check.example/secure", ""), Full, "")
	u.Six = true
	wantState(t, u, target(t, "http://six.example/204", ""), Full, "")
	u.Four = false
	wantState(t, u, target(t, "http://[2001:db8:ff::1]/204", ""), Full, "")
}

// TestProbeOwnLink: two uplinks, one broken behind its router. Each is asked through itself, whichever has the better
// route, and its names come from its own servers.
func TestProbeOwnLink(t *testing.T) {
	t.Parallel()
	if !isolate(t) {
		return
	}
	broken, farBroken := uplink(t, "w0", 1, nil)
	whole, farWhole := uplink(t, "w1", 2, status(204))
	names(t, farWhole, "--address=/check.example/203.0.113.1")
	to := target(t, "http://check.example/", "")
	wantState(t, broken, to, Limited, "name server")
	wantState(t, whole, to, Full, "")
	names(t, farBroken, "--address=/check.example/203.0.113.1")
	wantState(t, broken, to, Limited, "nothing listens") // at the same address where the other router's server is
	farBroken.Unaddress("203.0.113.1/32")                // now the way ends behind the router
	wantState(t, broken, to, Limited, "203.0.113.1")
	wantState(t, whole, to, Full, "")
	farWhole.Unaddress("10.2.0.1/24") // its router is gone
	wantState(t, whole, to, None, "gateway 10.2.0.1")
	var none Target
	wantState(t, broken, none, Gateway, "")
	wantState(t, whole, none, None, "gateway 10.2.0.1")
}

func TestProbeGateway(t *testing.T) {
	t.Parallel()
	if !isolate(t) {
		return
	}
	u, far := uplink(t, "w0", 1, nil)
	u.Gateways = []netip.Addr{netip.MustParseAddr("fd00:1::1")}
	wantState(t, u, Target{}, Gateway, "")
	u.Gateways = []netip.Addr{netip.MustParseAddr("fd00:1::9")}
	wantState(t, u, Target{}, None, "gateway fd00:1::9")
	u.Gateways = []netip.Addr{netip.MustParseAddr("10.1.0.9"), netip.MustParseAddr("10.1.0.1")}
	wantState(t, u, Target{}, Gateway, "")
	u.Gateways = nil
	wantState(t, u, Target{}, Gateway, "")
	u.Gateways = []netip.Addr{netip.MustParseAddr("10.1.0.1")}
	far.Down()
	wantState(t, u, Target{}, None, "")
}

// TestProbeEnds: a probe ends when its caller does.
func TestProbeEnds(t *testing.T) {
	t.Parallel()
	if !isolate(t) {
		return
	}
	asked := make(chan struct{}, 1)
	u, _ := uplink(t, "w0", 1, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan Finding)
	go func() { done <- Probe(ctx, u, target(t, "http://203.0.113.1/", "")) }()
	testenv.Receive(t, "the question", asked)
	cancel(errors.New("enough"))
	testenv.Receive(t, "the end of the probe", done)
}
