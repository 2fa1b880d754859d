package redsocks

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"net/netip"
)

const whole = `
base { // what is about the program
	log_debug = off; log_info = on; log = "syslog:daemon"; daemon = off; redirector = iptables;
}
/* the proxy
 */
redsocks {
	type = http-connect;
	ip = proxy.example.com;
	port = 3128;
	login = ada; password = "a \"b\" \\ c; }";
	local_ip = 0.0.0.0; local_port = 12346;
	splice = false; disclose_src = false;
}
redudp { local_ip = 127.0.0.1; ip = 10.0.0.1; }
`

func TestParse(t *testing.T) {
	want := Config{Server: Server{Connect, "proxy.example.com", 3128, "ada", `a "b" \ c; }`},
		Port: 12346, Containers: true,
		Warnings: []string{"line 15: section redudp has no effect: only TCP and name questions go through the proxy"}}
	if got, err := Parse([]byte(whole)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	want = Config{Server: Server{Type: SOCKS5, Host: "10.0.0.1", Port: 1080}, Port: 12345,
		Names: &Names{5313, netip.MustParseAddrPort("8.8.8.8:53")}}
	got, err := Parse([]byte("redsocks{type=socks5;ip=10.0.0.1;port=1080;}" +
		"dnsu2t{remote_ip=8.8.8.8;local_ip=10.114.103.1;}"))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	six, err := Parse([]byte(`redsocks { type = socks5; ip = "2001:db8::1"; port = 1080; }`))
	if err != nil || six.Server.String() != "socks5 [2001:db8::1]:1080" {
		t.Errorf("%v, %v", six, err)
	}
}

func TestFaults(t *testing.T) {
	const right = "redsocks {\ntype = socks5; ip = 10.0.0.1; port = 1080;\n"
	for _, c := range []struct{ text, want string }{
		{"", "there is no section redsocks"},
		{right, "line 1: section redsocks does not end: } is missing"},
		{right + "} socks {}", "line 3: there is no section of this name; there are base, redsocks"},
		{right + "paswort = secret; }", `line 3: section redsocks has no key "paswort"`},
		{right + "password = secret }", "line 3: a setting is written: KEY = VALUE;"},
		{right + "password = 1secret; login = x; }", "line 3: a setting is written: KEY = VALUE;"},
		{right + "login = ; }", "line 3: a setting is written: KEY = VALUE;"},
		{right + "password = \"secret\n\"; }", "line 3: the quote does not end on its line"},
		{right + `password = "secret\q"; }`, `line 3: behind \ may stand n, t, r, \, ' and "`},
		{right + "password = sec$ret; }", "line 3: a character that only a value between quotes may"},
		{right + "# password = secret;\n}", "line 3: # begins no comment here; write //"},
		{right + "/* }", "line 3: the comment does not end: */ is missing"},
		{right + "password = secret; }", "line 3: password needs login"},
		{right + "port = 1; }", "line 3: port was set on line 2 already"},
		{right + "} " + right + "}", "line 3: a second section redsocks; the first is on line 1"},
		{right + "local_port = 0; }", "line 3: local_port must be a number from 1 to 65535"},
		{right + "local_ip = 10.0.0.7; }", "line 3: local_ip must be 127.0.0.1"},
		{right + "parse_sni_host = true; }", "line 3: parse_sni_host: only false is possible"},
		{right + "} dnstc {}\ndnsu2t { remote_ip = 8.8.8.8; }", "line 4: use one of dnsu2t and dnstc, not both"},
		{right + "} dnsu2t {}", "line 3: section dnsu2t needs the key remote_ip"},
		{right + "} dnsu2t { remote_ip = example.com; }", "line 3: remote_ip must be the address of a name server"},
		{"redsocks { type = ftp; ip = 300.1.1.1; port = 99999; }", "line 1: port must be a number from 1 to 65535\n" +
			"line 1: ip must be an address or a host name\nline 1: type must be socks5"},
		{"redsocks { }", "line 1: section redsocks needs the key port\nline 1: section redsocks needs the key ip, " +
			"the address of the proxy\nline 1: section redsocks needs the key type"},
		{"redsocks { type = http-connect; ip = p; port = 1; login = \"a:b\"; }", "line 1: login must not have a colon"},
		{"redsocks { type = socks5; ip = p; port = 1; } dnstc {}", "with dnsu2t or dnstc, ip must be an address"},
	} {
		_, err := Parse([]byte(c.text))
		if got := fmt.Sprint(err); !strings.HasPrefix(got, c.want) || strings.Contains(got, "secret") {
			t.Errorf("Parse(%q) = %q, want %q", c.text, got, c.want)
		}
	}
}

// TestHost: the proxy server is an address without a zone, or what services/hostname accepts and no mistyped address.
func TestHost(t *testing.T) {
	for host, want := range map[string]bool{"p": true, "proxy_1.example.com": true, "3com.example": true,
		"10.0.0.1": true, "2001:db8::1": true, "-p": false, "p-": false, "a.-b.c": false, "a..b": false,
		"300.1.1.1": false, "12": false, "0.0.0.0": false, "224.0.0.1": false, "fe80::1%eth0": false, "p.": false,
		strings.Repeat("a", 64): false} {
		_, err := Parse([]byte("redsocks { type = socks5; port = 1; ip = \"" + host + "\"; }"))
		if got := err == nil; got != want {
			t.Errorf("ip = %q: %v, want %v", host, err, want)
		}
	}
}

func TestParseNoProxy(t *testing.T) {
	got, err := ParseNoProxy([]byte("# ours\n10.1.2.3\n\n 192.0.2.77/24 # office\r\n2001:db8::/32"))
	if want := "[10.1.2.3/32 192.0.2.0/24 2001:db8::/32]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v, %v, want %s", got, err, want)
	}
	_, err = ParseNoProxy([]byte("example.com\n10.0.0.1\n10.0.0.0/33\n"))
	const why = ": neither an address nor a network (192.168.7.0/24)"
	if want := "line 1" + why + "\nline 3" + why; fmt.Sprint(err) != want {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := ParseNoProxy([]byte(strings.Repeat("10.0.0.1\n", maxNetworks+1))); err == nil {
		t.Error("any number of networks")
	}
}

// FuzzParse: nothing makes the parser fail, and what it accepts can be used.
func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("redsocks{type=socks5;ip=10.0.0.1;port=1080;password=\"\\\\\";}dnstc{}"))
	f.Add([]byte("base {/*\n*/ log = \"\\"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text)
		if err == nil && (c.Port == 0 || c.Server.Port == 0 || c.Server.Host == "" || c.Server.Type == "") {
			t.Errorf("%q is accepted: %+v", text, c)
		}
		if err == nil && c.Names != nil && (c.Names.Port == 0 || !netip.MustParseAddr(c.Server.Host).IsValid()) {
			t.Errorf("%q is accepted: %+v", text, c)
		}
	})
}

// FuzzParseNoProxy: what is accepted is a network.
func FuzzParseNoProxy(f *testing.F) {
	f.Add([]byte("10.0.0.1\n10.0.0.0/8 # x\n::1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := ParseNoProxy(text)
		for _, p := range list {
			if err == nil && (!p.IsValid() || p != p.Masked()) {
				t.Errorf("%q gives %s", text, p)
			}
		}
	})
}
