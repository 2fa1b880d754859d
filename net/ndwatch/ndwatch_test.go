package ndwatch

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
)

// message is a message of netlink.
func message(kind uint16, body []byte) []byte {
	p := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	p = binary.NativeEndian.AppendUint16(p, kind)
	p = append(p, make([]byte, 10)...)
	return append(append(p, body...), make([]byte, -len(body)&3)...)
}

// options is a message about options of an advertisement.
func options(list ...[]byte) []byte {
	all := slices.Concat(list...)
	p := []byte{unix.AF_INET6, 0}
	p = binary.NativeEndian.AppendUint16(p, uint16(len(all)))
	p = binary.NativeEndian.AppendUint32(p, 7)
	p = append(p, advertisement, 0, 0, 0, 0, 0, 0, 0)
	return message(unix.RTM_NEWNDUSEROPT, append(p, all...))
}

func option(kind byte, lifetime uint32, content ...byte) []byte {
	for len(content)%8 != 0 {
		content = append(content, 0)
	}
	p := []byte{kind, byte(1 + len(content)/8), 0, 0}
	return append(binary.BigEndian.AppendUint32(p, lifetime), content...)
}

var server = [16]byte{0x20, 1, 0xd, 0xb8, 15: 0x53}

func TestParse(t *testing.T) {
	link := binary.NativeEndian.AppendUint32([]byte{unix.AF_INET6, 0, 0, 0}, 7)
	link = append(link, make([]byte, 8)...)
	link = append(link, 12, 0, byte(unix.IFLA_PROTINFO), 0, 8, 0, unix.IFLA_INET6_FLAGS, 0)
	link = binary.NativeEndian.AppendUint32(link, flagManaged|flagOther)
	for _, tt := range []struct {
		name string
		p    []byte
		want string
	}{
		{"servers", options(option(25, 60, slices.Concat(server[:], server[:])...)),
			"[{7 [{2001:db8::53 1m0s} {2001:db8::53 1m0s}] [] {false false} false}]"},
		{"domains", options(option(31, 60, []byte("\x03lab\x07example\x00\x01x\x00")...)),
			"[{7 [] [{lab.example 1m0s} {x 1m0s}] {false false} false}]"},
		{"a domain that is none", options(option(31, 60, []byte("\x03a;b\x00\x01x\x00")...)),
			"[{7 [] [{x 1m0s}] {false false} false}]"},
		{"a domain without end", options(option(31, 60, []byte("\x3fabcdefg")...)), "[]"},
		{"flags", message(unix.RTM_NEWLINK, link), "[{7 [] [] {true true} true}]"},
		{"a server that is none", options(option(25, 60, make([]byte, 16)...)), "[]"},
		{"length 0", options([]byte{25, 0, 0, 0, 0, 0, 0, 0}), "[]"},
		{"too long", options([]byte{25, 9, 0, 0, 0, 0, 0, 0}), "[]"},
		{"another protocol", message(unix.RTM_NEWLINK, make([]byte, 16)), "[]"},
		{"cut", options(option(25, 60, server[:]...))[:40], "[]"},
		{"two messages", slices.Concat(message(99, []byte{1}), options(option(31, 1, 1, 'x', 0))),
			"[{7 [] [{x 1s}] {false false} false}]"},
	} {
		if got := fmt.Sprint(Parse(tt.p)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	many := Parse(options(option(25, 1, slices.Repeat(server[:], 100)...)))
	if len(many) != 1 || len(many[0].Servers) != maxServers {
		t.Errorf("%d servers of 100 are read", len(many[0].Servers))
	}
}

func FuzzParse(f *testing.F) {
	f.Add(options(option(25, 60, server[:]...), option(31, 60, []byte("\x03lab\x07example\x00")...)))
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, e := range Parse(p) {
			if e.Index <= 0 || len(e.Servers) > maxServers || len(e.Domains) > maxDomains {
				t.Fatalf("%+v", e)
			}
		}
	})
}

// TestRadvd: what a real router says arrives.
func TestRadvd(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	far := linktest.Cable(t, "w0")
	far.Up()
	l, err := netlink.LinkByName("w0")
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan Event, 100)
	w, err := Watch(func(e Event) bool { events <- e; return true })
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := netlink.LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
	path := testenv.NeedProgram(t, "radvd")
	conf := filepath.Join(t.TempDir(), "radvd.conf")
	text := "interface " + far.Name + ` { AdvSendAdvert on; AdvManagedFlag on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;
		prefix 2001:db8:1::/64 {}; RDNSS 2001:db8::53 fe80::1 { AdvRDNSSLifetime 600; };
		DNSSL lab.example { AdvDNSSLLifetime 600; }; };`
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	far.Start(exec.Command(path, "-n", "-C", conf, "-p", conf+".pid", "-m", "stderr", "-u", "root"))
	seen := ""
	testenv.WaitFor(t, "servers, a domain and the flag", func() bool {
		select {
		case e := <-events:
			seen += fmt.Sprint(e)
		case <-time.After(time.Second):
			if err := Solicit(l.Attrs().Index); err != nil {
				t.Log(err)
			}
		}
		return strings.Contains(seen, "{2001:db8::53 10m0s} {fe80::1 10m0s}") &&
			strings.Contains(seen, "{lab.example 10m0s}") && strings.Contains(seen, "{true false} true")
	})
	if f, err := FlagsOf(l.Attrs().Index); err != nil || !f.Managed || f.Other {
		t.Errorf("flags %+v, %v", f, err)
	}
	if t.Failed() {
		t.Log(seen)
	}
}
