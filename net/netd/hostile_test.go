package netd

import (
	"bytes"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/net/dhcpclient"
	"resinos/net/link/linktest"
)

// honest answers as a server should, with options changed.
func honest(change func(*dhcpv4.DHCPv4)) func(*wire, request) {
	return func(w *wire, m request) {
		kind := typeOffer
		if m.MessageType() == typeRequest {
			kind = typeAck
		}
		w.reply(m, kind, "10.9.0.66", change)
	}
}

func option(code uint8, value ...byte) func(*dhcpv4.DHCPv4) {
	return func(r *dhcpv4.DHCPv4) { r.Options[code] = value }
}

// One hostile server each; what it tries, and what has to come of it: a lease with sane values, or none and the
// reason in the log.
func TestHostileServer(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(*wire, request)
		lease  string // the address and length of the lease to expect; empty: none
		log    string // what the log must say
	}{
		{"lease of no time", honest(option(51, 0, 0, 0, 0)), "10.9.0.120/24 30s", "lease time 0s raised to 30s"},
		{"lease of a second", honest(option(51, 0, 0, 0, 1)), "10.9.0.120/24 30s", "lease time 1s raised to 30s"},
		{"mtu of 68", honest(option(26, 0, 68)), "10.9.0.120/24 1h0m0s", "mtu 68 ignored"},
		{"mtu of 65535", honest(option(26, 255, 255)), "10.9.0.120/24 1h0m0s", "mtu 65535 ignored"},
		{"mtu below IPv6's", honest(option(26, 3, 32)), "10.9.0.120/24 1h0m0s", "mtu 800"},
		{"host name for a shell", honest(option(12, []byte("a;reboot\nb")...)), "10.9.0.120/24 1h0m0s",
			"option 12 is no host name"},
		{"domain that adds a name server", honest(option(15, []byte("x\nnameserver 6.6.6.6")...)),
			"10.9.0.120/24 1h0m0s", "2 names of option 15 are no host names"},
		{"a kilobyte of search list", honest(option(119, bytes.Repeat([]byte("\x01a\x00\x01b\xc0\x00"), 150)...)),
			"10.9.0.120/24 1h0m0s", "lease bound"},
		{"overload in the overload", func(w *wire, m request) {
			raw := build(m, map[bool]dhcpv4.MessageType{true: typeAck,
				false: typeOffer}[m.MessageType() == typeRequest], "10.9.0.66", option(52, 3)).ToBytes()
			copy(raw[108:], []byte{52, 1, 3, 52, 1, 3, 255})
			copy(raw[44:], []byte{52, 1, 3, 52, 1, 3, 255})
			w.send(raw)
		}, "10.9.0.120/24 1h0m0s", "lease bound"},
		{"routes around everything", honest(option(121, 1, 0, 10, 9, 0, 66, 1, 128, 10, 9, 0, 66)),
			"10.9.0.120/24 1h0m0s", "2 classless routes refused"},
		{"address of everyone", honest(func(r *dhcpv4.DHCPv4) { r.YourIPAddr = net.IPv4bcast.To4() }), "",
			"is no address for a host"},
		{"address on loopback", honest(func(r *dhcpv4.DHCPv4) { r.YourIPAddr = net.IPv4(127, 0, 0, 1).To4() }), "",
			"is no address for a host"},
		{"no server identifier", honest(func(r *dhcpv4.DHCPv4) { delete(r.Options, 54) }), "",
			"no usable server identifier"},
		{"option longer than the message", func(w *wire, m request) {
			raw := bytes.TrimRight(build(m, typeOffer, "10.9.0.66", nil).ToBytes(), "\x00\xff")
			w.send(append(raw, 6, 250, 1, 2))
		}, "", "read message"},
		{"nak to everything", func(w *wire, m request) {
			kind := typeOffer
			if m.MessageType() == typeRequest {
				kind = typeNak
			}
			w.reply(m, kind, "10.9.0.66", nil)
		}, "", "refused 2 times"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if !linktest.Isolate(t) {
				return
			}
			d := newDevice(t)
			d.impostor(tt.answer)
			d.start()
			if tt.lease != "" {
				l := d.lease()
				if got := l.Address.String() + " " + l.Length.String(); got != tt.lease {
					t.Errorf("lease = %s, want %s", got, tt.lease)
				}
			}
			d.eventually("log says "+tt.log, func() bool { return strings.Contains(d.log.String(), tt.log) })
			if tt.lease == "" && len(linktest.Addresses(t, "w0")) > 0 {
				t.Errorf("addresses = %q, want none", linktest.Addresses(t, "w0"))
			}
			if strings.Contains(d.resolv(), "6.6.6.6") {
				t.Errorf("resolv.conf = %q", d.resolv())
			}
		})
	}
}

// Floods cost next to nothing, and the device gets its lease once they end.
func TestFloods(t *testing.T) {
	other := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for name, flood := range map[string]func(m request) []byte{
		"offers": func(m request) []byte { return build(m, typeOffer, "10.9.0.66", nil).ToBytes() },
		"useless offers": func(m request) []byte {
			return build(m, typeOffer, "10.9.0.66",
				func(r *dhcpv4.DHCPv4) { r.YourIPAddr = net.IPv4zero.To4() }).ToBytes()
		},
		"naks": func(m request) []byte { return build(m, typeNak, "10.9.0.66", nil).ToBytes() },
		"foreign transactions": func(m request) []byte {
			return build(m, typeAck, "10.9.0.66", func(r *dhcpv4.DHCPv4) { r.TransactionID[3] ^= 0x55 }).ToBytes()
		},
		"foreign cards": func(m request) []byte {
			return build(m, typeAck, "10.9.0.66", func(r *dhcpv4.DHCPv4) { r.ClientHWAddr = other }).ToBytes()
		},
		"garbage": func(m request) []byte {
			raw := build(m, typeOffer, "10.9.0.66", nil).ToBytes()
			return append(raw[:236], bytes.Repeat([]byte{52, 1, 3}, 300)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if !linktest.Isolate(t) {
				return
			}
			d := newDevice(t)
			var last atomic.Pointer[dhcpv4.DHCPv4]
			var honestNow atomic.Bool
			var air *wire
			ready := make(chan struct{})
			d.impostor(func(w *wire, m request) {
				if honestNow.Load() {
					honest(nil)(w, m)
				} else if last.Swap(m) == nil {
					air = w
					close(ready)
				}
			})
			netd := d.spawn()
			<-ready
			const packets = 20_000
			began, before := time.Now(), netd.usage()
			size := 0
			for range packets {
				message := flood(last.Load())
				size = len(message)
				air.send(message)
			}
			after, took := netd.usage(), time.Since(began)
			read := (after.read - before.read) / size
			t.Logf("%d packets in %s: bytes of %d read, %s of CPU, %d kB more memory", packets, took, read,
				after.cpu-before.cpu, after.private-before.private)
			// The headers of a packet and the wakes of the runtime are less than a message; what a flood calls forth
			// besides is a handful.
			if most := 100 + 2*(dhcpclient.Burst+int(took/dhcpclient.Pause)); read > most {
				t.Errorf("of %d packets in %s the bytes of %d were read, want at most %d", packets, took, read, most)
			}
			testenv.AtMost(t, "processor time of a flood, of a tenth of its own", after.cpu-before.cpu, took/10)
			if more := after.private - before.private; testenv.Figures() && more > 8<<10 {
				t.Errorf("the flood cost %d kB of memory", more)
			}
			if len(d.log.String()) > 64<<10 {
				t.Errorf("the flood left %d bytes of log", len(d.log.String()))
			}
			honestNow.Store(true)
			d.eventually("lease after the flood", has(t, "10.9.0.120/24"))
			unix.Kill(netd.pid, unix.SIGKILL)
		})
	}
}
