package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
	"resinos/net/reach"
	"resinos/net/redsocks"
	"resinos/net/ruleset"
)

func TestPlan(t *testing.T) {
	conf := redsocks.Config{Port: 12345,
		Server: redsocks.Server{Type: redsocks.SOCKS5, Host: "203.0.113.7", Port: 1080}}
	text := "# the device alone\n" + Plan(conf, nil).String()
	conf.Containers, conf.Server.Host = true, "proxy.example.com"
	conf.Names = &redsocks.Names{Port: 5313}
	beside := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::7/128")}
	text += "# with containers, names and no_proxy\n" + Plan(conf, beside).String()
	conf.Containers, conf.Names, conf.Server.Type = false, nil, redsocks.Relay
	text += "# the web alone\n" + Plan(conf, nil).String()
	testenv.Golden(t, "plan", text)
}

// world is a device with an uplink, up0. At its other end, 198.51.100.1, proxies run, and 203.0.113.10 and
// 2001:db8:1::10 say who connects with port 99.
type world struct {
	t          *testing.T
	far        *linktest.Far
	dir, state string
	log        *testenv.Log
	service    *Service
	ended      chan error
	stop       context.CancelFunc
}

const (
	server, server6 = "203.0.113.10:99", "[2001:db8:1::10]:99"
	secret          = "correct-horse"
)

func newWorld(t *testing.T) *world {
	w := &world{t: t, far: linktest.Cable(t, "up0"), dir: t.TempDir(), state: filepath.Join(t.TempDir(), "proxy"),
		log: &testenv.Log{}}
	for _, command := range []string{"address add 127.0.0.1/8 dev lo", "link set lo up",
		"address add 198.51.100.2/24 dev up0", "-6 address add 2001:db8::2/64 dev up0 nodad", "link set up0 up"} {
		testenv.Run(t, "ip", strings.Fields(command)...)
	}
	w.far.Up()
	w.far.Do(func() error {
		var all error
		for _, command := range []string{"link set lo up", "address add 198.51.100.1/24 dev " + w.far.Name,
			"address add 203.0.113.10/32 dev lo", "-6 address add 2001:db8::1/64 nodad dev " + w.far.Name,
			"-6 address add 2001:db8:1::10/128 nodad dev lo"} {
			out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput()
			if err != nil {
				all = errors.Join(all, fmt.Errorf("ip %s: %s", command, out))
			}
		}
		return all
	})
	testenv.Run(t, "ip", "route", "add", "default", "via", "198.51.100.1")
	testenv.Run(t, "ip", "-6", "route", "add", "default", "via", "2001:db8::1")
	w.far.Do(func() error { return linktest.Serve(t, "tcp", ":99") })
	return w
}

// page asks the web server behind the uplink for a page, which says who has asked.
func (w *world) page() string {
	w.far.Do(func() error {
		l, err := net.Listen("tcp", ":80")
		if err != nil {
			return err
		}
		go func() {
			defer l.Close()
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			for r := bufio.NewReader(c); ; {
				if line, err := r.ReadString('\n'); err != nil || line == "\r\n" {
					break
				}
			}
			fmt.Fprintf(c, "HTTP/1.0 200 OK\r\n\r\na page for %s", c.RemoteAddr().(*net.TCPAddr).IP)
		}()
		return nil
	})
	c, err := net.DialTimeout("tcp", "203.0.113.10:80", testenv.Patience())
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(testenv.Patience()))
	fmt.Fprint(c, "GET /a HTTP/1.0\r\nHost: 203.0.113.10\r\n\r\n")
	text, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (w *world) start() {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.t.Context())
	w.service = &Service{Dir: w.dir, State: w.state,
		Log: slog.New(slog.NewTextHandler(io.MultiWriter(w.log, os.Stderr), nil))}
	w.ended, w.stop = make(chan error, 1), stop
	go func(s *Service, ended chan error) { ended <- s.Run(ctx); close(ended) }(w.service, w.ended)
	w.t.Cleanup(func() {
		stop()
		<-w.ended // closed if the test has seen the end
	})
}

// write writes a file as an editor does that leaves no half of it.
func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := errors.Join(os.WriteFile(path+"~", []byte(text), 0o644), os.Rename(path+"~", path)); err != nil {
		w.t.Fatal(err)
	}
}

// conf returns a redsocks.conf.
func conf(kind string, port int, more string) string {
	return fmt.Sprintf("base { log_info = on; redirector = iptables; }\n"+
		"redsocks { type = %s; ip = 198.51.100.1; port = %d; local_ip = 127.0.0.1; local_port = 12345; %s }\n",
		kind, port, more)
}

// asks returns what the server says and sends back; "" if the connection breaks.
func (w *world) asks(address string) string {
	c, err := net.DialTimeout("tcp", address, testenv.Patience())
	if err != nil {
		return ""
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(testenv.Patience()))
	fmt.Fprint(c, "echo")
	text := ""
	for buf := make([]byte, 100); !strings.HasSuffix(text, "echo"); {
		n, err := c.Read(buf)
		if text += string(buf[:n]); err != nil {
			return ""
		}
	}
	return strings.ReplaceAll(text, "\n", " ")
}

func (w *world) wait(what string, happened func() bool) {
	w.t.Helper()
	if err := testenv.Await(what, happened); err != nil {
		s, _ := Read(w.state)
		w.t.Fatalf("%v\nstatus: %+v", err, s)
	}
}

// logs waits for a line of a program, which may have answered before it writes the line.
func (w *world) logs(from interface{ Has(string) bool }, text string) {
	w.t.Helper()
	w.wait(text, func() bool { return from.Has(text) })
}

// inForce waits until the server is in force, and nothing is wrong.
func (w *world) inForce(server string) {
	w.t.Helper()
	w.wait(server+" in force", func() bool {
		s, _ := Read(w.state)
		return s == Status{Server: server}
	})
}

// listens waits until a program of the far end serves a port.
func (w *world) listens(port int) {
	w.t.Helper()
	w.wait(fmt.Sprintf("port %d", port), func() (open bool) {
		w.far.Do(func() error {
			c, err := net.Dial("tcp", fmt.Sprintf("198.51.100.1:%d", port))
			if open = err == nil; open {
				c.Close()
			}
			return nil
		})
		return open
	})
}

// program starts a proxy at the far end; what it says goes into the log that is returned.
func (w *world) program(port int, name string, args ...string) *testenv.Log {
	said := &testenv.Log{}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = said, said
	w.far.Start(cmd)
	w.listens(port)
	return said
}

func (w *world) file(text string) string {
	path := filepath.Join(w.t.TempDir(), "conf")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func TestRealProxies(t *testing.T) {
	testenv.NeedPrograms(t, "nft", "ip", "microsocks", "tinyproxy", "danted")
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	socks := w.program(1080, "microsocks", "-p", "1080", "-u", "ada", "-P", secret)
	web := w.program(8888, "tinyproxy", "-d", "-c", w.file("User root\nGroup root\nPort 8888\nBasicAuth ada "+secret+
		"\nLogLevel Connect\nConnectPort 99\nTimeout 60\n"))
	four := w.program(1081, "danted", "-f", w.file("internal: 198.51.100.1 port = 1081\nexternal: 203.0.113.10\n"+
		"clientmethod: none\nsocksmethod: none\nlogoutput: stdout\nuser.privileged: root\nuser.unprivileged: root\n"+
		"client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\nsocks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 log: connect }\n"))
	login := `login = "ada"; password = "` + secret + `";`
	if got := w.asks(server); got != "198.51.100.2 echo" {
		t.Fatalf("without a proxy: %q", got)
	}
	w.write(redsocks.Name, conf("socks5", 1080, login))
	w.start()
	w.inForce("socks5 198.51.100.1:1080")
	for address, want := range map[string]string{server: "203.0.113.10 echo", server6: "2001:db8:1::10 echo"} {
		if got := w.asks(address); got != want {
			t.Errorf("SOCKS5 to %s: %q, want %q", address, got, want)
		}
	}
	w.logs(socks, "connected to 203.0.113.10:99")
	w.write(redsocks.Name, conf("http-connect", 8888, login))
	w.inForce("http-connect 198.51.100.1:8888")
	for address, want := range map[string]string{server: "203.0.113.10 echo", server6: "2001:db8:1::10 echo"} {
		if got := w.asks(address); got != want {
			t.Errorf("CONNECT to %s: %q, want %q", address, got, want)
		}
	}
	w.logs(web, "CONNECT 203.0.113.10:99")
	w.write(redsocks.Name, conf("socks4", 1081, ""))
	w.inForce("socks4 198.51.100.1:1081")
	if got := w.asks(server); got != "203.0.113.10 echo" {
		t.Errorf("SOCKS4: %q", got)
	}
	w.logs(four, "203.0.113.10.99")
	w.write(redsocks.Name, conf("http-relay", 8888, login))
	w.inForce("http-relay 198.51.100.1:8888")
	if got := w.page(); !strings.HasPrefix(got, "HTTP/1.0 200") || !strings.HasSuffix(got, "a page for 203.0.113.10") {
		t.Errorf("http-relay: %q", got)
	}
	w.logs(web, "GET http://203.0.113.10/a HTTP/1.0")
	if got := w.asks(server); got != "198.51.100.2 echo" {
		t.Errorf("http-relay, another port than 80: %q", got)
	}
	for kind, port := range map[string]int{"socks5": 1080, "http-connect": 8888} {
		w.write(redsocks.Name, conf(kind, port, `login = "ada"; password = "wrong-word";`))
		w.wait("the server in the status", func() bool {
			s, _ := Read(w.state)
			return s.Server == fmt.Sprintf("%s 198.51.100.1:%d", kind, port)
		})
		if got := w.asks(server); got != "" {
			t.Errorf("%s with a wrong password: %q", kind, got)
		}
		w.wait("the fault", func() bool { s, _ := Read(w.state); return s.Fault != "" })
		s, _ := Read(w.state)
		if text := fmt.Sprint(s.Faults()); strings.Contains(text, "wrong-word") || strings.Contains(text, "ada") {
			t.Errorf("%s: a secret is in the status: %s", kind, text)
		}
		t.Logf("%s with a wrong password: %v", kind, s.Faults())
	}
	w.write(redsocks.Name, conf("socks5", 1080, login))
	w.inForce("socks5 198.51.100.1:1080")
	if err := os.Remove(filepath.Join(w.dir, redsocks.Name)); err != nil {
		t.Fatal(err)
	}
	if err := testenv.Receive(t, "the end of the service", w.ended); err != nil {
		t.Error(err)
	}
	if got := w.asks(server); got != "198.51.100.2 echo" {
		t.Errorf("without the file: %q", got)
	}
	if _, err := os.Stat(w.state); !errors.Is(err, os.ErrNotExist) || ruleset.There(Plan(redsocks.Config{}, nil)) {
		t.Errorf("something is left: %v", err)
	}
	if w.log.Has("wrong-word") || w.log.Has(secret) {
		t.Error("a password is in the log")
	}
}

// TestWrongFiles: a wrong file is refused with its line, and what was there before stays, also for the next life of the
// service; no_proxy counts at once.
func TestWrongFiles(t *testing.T) {
	testenv.NeedPrograms(t, "nft", "ip", "microsocks")
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	w.program(1080, "microsocks", "-p", "1080")
	w.write(redsocks.Name, "redsocks {")
	w.start()
	w.wait("the fault", func() bool {
		s, _ := Read(w.state)
		return strings.Contains(s.File, "redsocks.conf: line 1: ")
	})
	if got := w.asks(server); got != "198.51.100.2 echo" {
		t.Errorf("with a wrong file and none before: %q", got)
	}
	w.write(redsocks.Name, conf("socks5", 1080, ""))
	w.inForce("socks5 198.51.100.1:1080")
	w.write(redsocks.Name, conf("socks5", 1080, "\n\npasword = \"hidden-word\";"))
	refused := func() bool {
		s, _ := Read(w.state)
		return s.Server == "socks5 198.51.100.1:1080" && strings.Contains(s.File, "line 4") &&
			strings.HasSuffix(s.File, "what was there before stays in force")
	}
	w.wait("the refusal", refused)
	if got := w.asks(server); got != "203.0.113.10 echo" {
		t.Errorf("with a wrong file: %q", got)
	}
	w.stop()
	if err := testenv.Receive(t, "the end of the service", w.ended); err != nil {
		t.Error(err)
	}
	w.start()
	w.wait("the refusal by the next life", refused)
	if got := w.asks(server); got != "203.0.113.10 echo" {
		t.Errorf("after a restart with a wrong file: %q", got)
	}
	w.write(redsocks.Name, conf("socks5", 1080, ""))
	w.inForce("socks5 198.51.100.1:1080")
	w.write(redsocks.NoProxy, "# ours\n203.0.113.0/24\n")
	w.wait("no_proxy", func() bool { return w.asks(server) == "198.51.100.2 echo" })
	w.write(redsocks.NoProxy, "example.com\n")
	w.wait("the refusal", func() bool {
		s, _ := Read(w.state)
		return strings.Contains(s.File, "no_proxy: line 1: ")
	})
	if got := w.asks(server); got != "198.51.100.2 echo" {
		t.Errorf("with a wrong no_proxy: %q", got)
	}
	if err := os.Remove(filepath.Join(w.dir, redsocks.NoProxy)); err != nil {
		t.Fatal(err)
	}
	w.inForce("socks5 198.51.100.1:1080")
	if got := w.asks(server); got != "203.0.113.10 echo" {
		t.Errorf("without no_proxy: %q", got)
	}
	testenv.Run(t, "nft", "flush", "ruleset")
	w.wait("the table again", func() bool { return ruleset.There(Plan(redsocks.Config{}, nil)) })
	if w.log.Has("hidden-word") {
		t.Error("a password is in the log")
	}
}

// TestDown: a proxy that is not there is reported, and used as soon as it comes, also without a connection that tries.
func TestDown(t *testing.T) {
	testenv.NeedPrograms(t, "nft", "ip", "microsocks")
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	w.write(redsocks.Name, conf("socks5", 1080, ""))
	w.start()
	w.wait("the fault", func() bool {
		s, _ := Read(w.state)
		return strings.Contains(s.Fault, "refused")
	})
	if got := w.asks(server); got != "" {
		t.Errorf("without a proxy: %q", got)
	}
	w.program(1080, "microsocks", "-p", "1080")
	w.inForce("socks5 198.51.100.1:1080")
	if got := w.asks(server); got != "203.0.113.10 echo" {
		t.Errorf("with the proxy: %q", got)
	}
	w.write(redsocks.Name, conf("socks5", 1082, "")) // another one that is not there
	w.wait("its fault, without a connection", func() bool {
		s, _ := Read(w.state)
		return s.Server == "socks5 198.51.100.1:1082" && strings.Contains(s.Fault, "refused")
	})
}

// TestSelf: who connects with the service's own port is turned away, and the service does not call itself.
func TestSelf(t *testing.T) {
	testenv.NeedPrograms(t, "nft", "ip", "microsocks")
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	w.program(1080, "microsocks", "-p", "1080")
	w.write(redsocks.Name, conf("socks5", 1080, ""))
	w.start()
	w.inForce("socks5 198.51.100.1:1080")
	for _, address := range []string{"127.0.0.1:12345", "[::1]:12345"} {
		if got := w.asks(address); got != "" {
			t.Errorf("%s: %q", address, got)
		}
	}
}

// TestReach: a question about one link alone goes past the proxy. Its socket is bound to the link, so that a
// redirection to lo would lead nowhere.
func TestReach(t *testing.T) {
	testenv.NeedPrograms(t, "nft", "ip", "microsocks")
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	socks := w.program(1080, "microsocks", "-p", "1080")
	w.write(redsocks.Name, conf("socks5", 1080, ""))
	w.start()
	w.inForce("socks5 198.51.100.1:1080")
	w.far.Do(func() error {
		l, err := net.Listen("tcp4", ":80")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }))
		return nil
	})
	target, err := reach.ParseTarget("http://203.0.113.10/", "", "", 3600)
	if err != nil {
		t.Fatal(err)
	}
	up, err := net.InterfaceByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	gateway := netip.MustParseAddr("198.51.100.1")
	found := reach.Probe(t.Context(), reach.Uplink{Index: up.Index, Name: up.Name, Hardware: up.HardwareAddr.String(),
		Gateways: []netip.Addr{gateway}, Four: true}, target)
	if found.State != reach.Full || socks.Has("203.0.113.10:80") {
		t.Errorf("it finds %+v; through the proxy: %v", found, socks.Has("203.0.113.10:80"))
	}
}

// TestContainers: with local_ip = 0.0.0.0 the connections of containers are led too, and others do not reach the port.
func TestContainers(t *testing.T) {
	testenv.NeedPrograms(t, "nft", "ip", "microsocks")
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	w.program(1080, "microsocks", "-p", "1080")
	inside := linktest.Cable(t, "net-1")
	inside.Up()
	inside.Address("172.20.0.2/24")
	testenv.Run(t, "ip", "address", "add", "172.20.0.1/24", "dev", "net-1")
	testenv.Run(t, "ip", "link", "set", "net-1", "up")
	inside.Do(func() error { return exec.Command("ip", "route", "add", "default", "via", "172.20.0.1").Run() })
	asks := func(far *linktest.Far, address string) (got string) {
		far.Do(func() error { got = w.asks(address); return nil })
		return got
	}
	all := strings.Replace(conf("socks5", 1080, ""), "local_ip = 127.0.0.1", "local_ip = 0.0.0.0", 1)
	w.write(redsocks.Name, all)
	w.start()
	w.inForce("socks5 198.51.100.1:1080")
	if got := asks(inside, server); got != "203.0.113.10 echo" {
		t.Errorf("a container: %q", got)
	}
	if got := w.asks(server); got != "203.0.113.10 echo" {
		t.Errorf("the device: %q", got)
	}
	w.far.Do(func() error {
		if c, err := net.DialTimeout("tcp", "198.51.100.2:12345", testenv.Limit(false)); err == nil {
			c.Close()
			t.Error("a stranger reaches the port")
		}
		return nil
	})
}

// lookup asks a name server over UDP for an address.
func lookup(from, name string) (answer dnsmessage.Message, err error) {
	question := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{
			{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	text, err := question.Pack()
	if err != nil {
		return answer, err
	}
	c, err := net.Dial("udp", from)
	if err != nil {
		return answer, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(testenv.Patience() / 10)) // a packet may be lost
	if _, err := c.Write(text); err != nil {
		return answer, err
	}
	buf := make([]byte, 1500)
	n, err := c.Read(buf)
	if err != nil {
		return answer, err
	}
	return answer, answer.Unpack(buf[:n])
}

// TestNames: with dnsu2t a question over UDP to any server arrives at that of the file, over TCP and through the proxy;
// with dnstc the client is told to ask over TCP.
func TestNames(t *testing.T) {
	testenv.NeedPrograms(t, "nft", "ip", "microsocks", "dnsmasq")
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	socks := w.program(1080, "microsocks", "-p", "1080")
	w.program(53, "dnsmasq", "-d", "-u", "root", "-C", "/dev/null", "-R", "-h", "--log-queries",
		"--address=/device.test/192.0.2.1", "--txt-record=long.test,"+strings.Repeat("x", 200))
	w.write(redsocks.Name, conf("socks5", 1080, "")+
		"dnsu2t { local_port = 5313; remote_ip = 203.0.113.10; remote_port = 53; }")
	w.start()
	w.inForce("socks5 198.51.100.1:1080")
	for _, from := range []string{"8.8.8.8:53", "192.168.99.1:53", "[2001:db8:9::1]:53"} {
		w.wait("an answer of "+from, func() bool {
			answer, err := lookup(from, "a.device.test.")
			return err == nil && len(answer.Answers) == 1 && answer.ID == 7
		})
	}
	w.logs(socks, "connected to 203.0.113.10:53")
	w.write(redsocks.Name, conf("socks5", 1080, "")+"dnstc { local_port = 5313; }")
	w.wait("the other way", func() bool {
		answer, err := lookup("8.8.8.8:53", "a.device.test.")
		return err == nil && answer.Truncated && len(answer.Answers) == 0 && len(answer.Questions) == 1
	})
}

func TestQuestion(t *testing.T) {
	whole := []byte{0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 1, 0, 1}
	if q, ok := questionOf(append(slices.Clone(whole), 1, 2, 3)); !ok || string(q) != string(whole) {
		t.Errorf("%v, %v", q, ok)
	}
	for i := range whole {
		if _, ok := questionOf(whole[:i]); ok {
			t.Errorf("%d bytes are a question", i)
		}
	}
	answer := slices.Clone(whole)
	answer[2] |= 0x80
	if _, ok := questionOf(answer); ok {
		t.Error("an answer is a question")
	}
	long := make([]byte, 600)
	if got := fitting(long, whole, whole); len(got) != len(whole) || got[2]&2 == 0 {
		t.Errorf("a long answer: %v", got)
	}
	six := slices.Clone(whole)
	six[11] = 1
	if got := fitting(long, whole, six); len(got) != 600 {
		t.Errorf("a long answer with EDNS: %d bytes", len(got))
	}
}
