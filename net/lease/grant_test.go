package lease

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"resinos/mounts/testenv"
)

// ack is a reply with these options, by number, beside what every reply needs.
func ack(options map[uint8][]byte) *dhcpv4.DHCPv4 {
	m := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootReply, HWType: 1, ClientHWAddr: ourHardware,
		YourIPAddr: net.IPv4(10, 9, 0, 50).To4(), Options: dhcpv4.Options{
			1: {255, 255, 255, 0}, 51: {0, 0, 14, 16}, 53: {5}, 54: {10, 9, 0, 1},
		},
	}
	for code, value := range options {
		m.Options[code] = value
		if value == nil {
			delete(m.Options, code)
		}
	}
	return m
}

func u32(n uint32) []byte { return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)} }

func TestGrant(t *testing.T) {
	many := func(n int) (out []byte) {
		for i := range n {
			out = append(out, 10, 0, byte(i>>8), byte(i))
		}
		return out
	}
	var b strings.Builder
	for _, tt := range []struct {
		name    string
		options map[uint8][]byte
	}{
		{"plain", map[uint8][]byte{3: {10, 9, 0, 1}, 6: {10, 9, 0, 1, 1, 1, 1, 1}, 15: []byte("lan.example"),
			12: []byte("box"), 26: {5, 120}, 42: {10, 9, 0, 3}}},
		{"no mask", map[uint8][]byte{1: nil}},
		{"mask with holes", map[uint8][]byte{1: {255, 0, 255, 0}}},
		{"mask of half the internet", map[uint8][]byte{1: {128, 0, 0, 0}}},
		{"point to point mask", map[uint8][]byte{1: {255, 255, 255, 255}, 3: {192, 0, 2, 1}}},
		{"lease of no time", map[uint8][]byte{51: u32(0)}},
		{"lease of a second", map[uint8][]byte{51: u32(1)}},
		{"lease time missing", map[uint8][]byte{51: nil}},
		{"lease time cut", map[uint8][]byte{51: {1}}},
		{"endless lease", map[uint8][]byte{51: u32(0xffffffff)}},
		{"own renewal times", map[uint8][]byte{58: u32(100), 59: u32(200)}},
		{"T1 beyond T2", map[uint8][]byte{58: u32(300), 59: u32(200)}},
		{"T2 beyond the lease", map[uint8][]byte{58: u32(300), 59: u32(99999)}},
		{"T1 of a second", map[uint8][]byte{58: u32(1), 59: u32(200)}},
		{"T2 alone, early", map[uint8][]byte{59: u32(160)}},
		{"mtu too small", map[uint8][]byte{26: {0, 68}}},
		{"mtu too large", map[uint8][]byte{26: {255, 255}}},
		{"mtu cut", map[uint8][]byte{26: {5}}},
		{"servers by the hundred", map[uint8][]byte{3: many(200), 6: many(200), 42: many(200)}},
		{"servers that are not", map[uint8][]byte{3: {127, 0, 0, 1}, 6: {0, 0, 0, 0, 224, 0, 0, 251, 255, 255, 255, 255,
			8, 8, 8, 8}, 42: {1, 2, 3}}},
		{"hostile names", map[uint8][]byte{12: []byte("a;reboot"), 15: []byte("x\nnameserver 6.6.6.6")}},
		{"names with an end", map[uint8][]byte{12: []byte("box\x00"), 15: []byte("lan.example.")}},
		{"several domains", map[uint8][]byte{15: []byte("one.example two.example,one.example.\tthree.example\x00")}},
		{"several domains, some of them wrong",
			map[uint8][]byte{15: []byte("good.example ba!d 10.0.0.1 -x also.example")}},
		{"domains by the hundred", map[uint8][]byte{15: []byte("a b c d e f g h i j k l m n o p")}},
		{"nothing but blanks for a domain", map[uint8][]byte{15: []byte(" ,\x00 ")}},
		{"several domains beside a search list", map[uint8][]byte{15: []byte("one.example two.example"),
			119: []byte("\x05three\x07example\x00")}},
		{"search list", map[uint8][]byte{119: []byte("\x03one\x07example\x00\x03two\xc0\x04")}},
		{"search list with a loop", map[uint8][]byte{119: []byte("\x03one\x00\xc0\x05\xc0\x00")}},
		{"search list with a forward pointer", map[uint8][]byte{119: []byte("\xc0\x02\x03one\x00")}},
		{"search list broken off", map[uint8][]byte{119: []byte("\x03one\x00\x3ftwo")}},
		{"64 kB of search list", map[uint8][]byte{119: bytes.Repeat([]byte("\x01a\x00\x01b\xc0\x00"), 11_000)}},
		{"name of 64 kB", map[uint8][]byte{119: bytes.Repeat([]byte("\x3f"+strings.Repeat("a", 63)), 1024)}},
		{"classless routes", map[uint8][]byte{3: {10, 9, 0, 1}, 121: {24, 10, 8, 1, 10, 9, 0, 2, 0, 10, 9, 0, 3, 32,
			192, 0, 2, 1, 0, 0, 0, 0}}},
		{"classless routes refused", map[uint8][]byte{121: {1, 0, 10, 9, 0, 2, 1, 128, 10, 9, 0, 2, 8, 127, 10, 9, 0, 2,
			4, 224, 10, 9, 0, 2, 0, 0, 0, 0, 0, 16, 172, 16, 127, 0, 0, 1}}},
		{"classless routes broken off", map[uint8][]byte{3: {10, 9, 0, 1}, 121: {24, 10, 8, 1, 10, 9, 0, 2, 24, 10}}},
		{"classless route of 99 bits", map[uint8][]byte{121: {99, 10, 8, 1, 10, 9, 0, 2, 24, 10}}},
		{"classless routes by the thousand", map[uint8][]byte{121: bytes.Repeat([]byte{24, 10, 8, 1, 10, 9, 0, 2},
			8000)}},
		{"broadcast address of others", map[uint8][]byte{28: {10, 255, 255, 255}}},
		{"no server", map[uint8][]byte{54: nil}},
		{"server on loopback", map[uint8][]byte{54: {127, 0, 0, 1}}},
	} {
		l, notes, err := Grant(ack(tt.options))
		fmt.Fprintf(&b, "# %s\n", tt.name)
		if err != nil {
			fmt.Fprintf(&b, "error: %v\n", err)
			continue
		}
		text, _ := json.Marshal(l)
		fmt.Fprintf(&b, "%s\n", text)
		for _, n := range notes {
			fmt.Fprintf(&b, "note: %s\n", n)
		}
	}
	testenv.Golden(t, "grant.golden", b.String())
}

func TestOverload(t *testing.T) {
	raw := ack(map[uint8][]byte{52: {3}, 6: {10, 9, 0, 1}}).ToBytes()
	// file; the overload in it means nothing
	copy(raw[108:], []byte{6, 4, 10, 9, 0, 2, 52, 1, 3, 15, 3, 'l', 'a', 'n', 255})
	copy(raw[44:], []byte{42, 4, 10, 9, 0, 3, 255}) // sname
	m, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	l, _, err := Grant(m)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(l.DNS, l.NTP, " ", l.Domains); got != "[10.9.0.1 10.9.0.2] [10.9.0.3] [lan]" {
		t.Errorf("servers and domain = %s", got)
	}
	copy(raw[108:], []byte{6, 200, 1}) // reaches beyond the field
	if m, err = Parse(raw); err != nil || len(m.Options.Get(dhcpv4.OptionDomainNameServer)) != 4 {
		t.Errorf("a broken overflow field was not left out: %v", err)
	}
}

func TestDatagram(t *testing.T) {
	message := bytes.Repeat([]byte("message"), 41) // odd length
	p := Datagram(netip.MustParseAddr("10.9.0.50"), message)
	// Turn it round: what a server sends has the ports the other way.
	p[20], p[21], p[22], p[23] = p[22], p[23], p[20], p[21]
	got, err := Undatagram(append(p, 0, 0, 0, 0)) // padding of the frame
	if err != nil || !bytes.Equal(got, message) {
		t.Errorf("Undatagram = %d bytes, %v; want %d", len(got), err, len(message))
	}
	pseudo := uint32(sum(0, p[12:20])) + protocolUDP + uint32(len(p)-ipHeader)
	if sum(pseudo, p[ipHeader:]) != 0xffff {
		t.Error("wrong UDP checksum")
	}
	for name, spoil := range map[string]func([]byte){
		"checksum": func(p []byte) { p[10] ^= 1 },
		"fragment": func(p []byte) {
			p[6] |= 0x20
			p[10], p[11] = 0, 0
			s := ^sum(0, p[:20])
			p[10], p[11] = byte(s>>8), byte(s)
		},
		"udp length": func(p []byte) { p[24] = 0xff },
		"port":       func(p []byte) { p[23]++ },
		"version":    func(p []byte) { p[0] = 0x65 },
	} {
		q := bytes.Clone(p)
		spoil(q)
		if _, err := Undatagram(q); err == nil {
			t.Errorf("a packet with a wrong %s was taken", name)
		}
	}
	for n := range len(p) {
		if _, err := Undatagram(p[:n]); err == nil {
			t.Errorf("a packet cut to %d bytes was taken", n)
		}
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir, "eth0"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of nothing = %v", err)
	}
	l, _, err := Grant(ack(map[uint8][]byte{3: {10, 9, 0, 1}, 26: {5, 120}, 121: {24, 10, 8, 1, 10, 9, 0, 2},
		15: []byte("lan"), 42: {10, 9, 0, 3}}))
	if err != nil {
		t.Fatal(err)
	}
	l.Link, l.Hardware, l.Bound = "eth0", ourHardware.String(), 12345*time.Millisecond
	text, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	write := func(content string) {
		if err := os.WriteFile(Path(dir, "eth0"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(string(text))
	got, err := Load(dir, "eth0")
	if err != nil || fmt.Sprint(got) != fmt.Sprint(l) {
		t.Errorf("Load = %v, %v; want %v", got, err, l)
	}
	for name, content := range map[string]string{
		"empty":           "",
		"cut":             string(text[:len(text)/2]),
		"other link":      strings.Replace(string(text), `"eth0"`, `"eth1"`, 1),
		"bad address":     strings.Replace(string(text), "10.9.0.50/24", "127.0.0.1/8", 1),
		"bad time server": strings.Replace(string(text), "10.9.0.3", "127.0.0.1", 1),
		"newline":         strings.Replace(string(text), `"lan"`, `"lan\nnameserver 6.6.6.6"`, 1),
		"no length":       strings.Replace(string(text), `"length":3600`, `"length":0`, 1),
		"negative time":   strings.Replace(string(text), `"bound":12.345`, `"bound":-1`, 1),
		"huge time":       strings.Replace(string(text), `"length":3600`, `"length":1e300`, 1),
		"huge file":       strings.Repeat(" ", maxFile) + string(text),
	} {
		write(content)
		if _, err := Load(dir, "eth0"); err == nil {
			t.Errorf("%s: lease file was taken", name)
		}
	}
	if got := Path("/run/leases", "../../etc/passwd"); got != "/run/leases/passwd.json" {
		t.Errorf("Path leads to %s", got)
	}
}

// FuzzReply feeds whole messages, as they come from the wire, to everything that reads them.
func FuzzReply(f *testing.F) {
	f.Add(ack(map[uint8][]byte{3: {10, 9, 0, 1}, 52: {3}, 119: []byte("\x03one\x00\xc0\x00"), 121: {24, 10, 8, 1, 10, 9,
		0, 2}}).ToBytes())
	f.Add(ack(map[uint8][]byte{51: {1}, 58: u32(9), 59: u32(8), 26: {1}, 15: []byte("a b")}).ToBytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := Parse(raw)
		if err != nil {
			return
		}
		l, _, err := Grant(m)
		if err != nil {
			return
		}
		if err := l.check(); err != nil {
			t.Fatalf("Grant let through what a file may not hold: %v in %+v", err, l)
		}
		if len(l.DNS) > maxServers || len(l.Routes) > maxRoutes || len(l.Search) > maxDomains || l.Length < minLength {
			t.Fatalf("beyond the limits: %+v", l)
		}
	})
}

// FuzzUndatagram feeds packets.
func FuzzUndatagram(f *testing.F) {
	f.Add(Datagram(netip.IPv4Unspecified(), []byte("x")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if m, err := Undatagram(raw); err == nil && len(m) > len(raw)-ipHeader-udpHeader {
			t.Fatalf("%d bytes out of %d", len(m), len(raw))
		}
	})
}

// FuzzLoad feeds lease files.
func FuzzLoad(f *testing.F) {
	l, _, _ := Grant(ack(nil))
	text, _ := json.Marshal(l)
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		var l Lease
		if json.Unmarshal(text, &l) == nil && l.Length < l.Renew {
			t.Fatalf("taken: %+v", l)
		}
	})
}
