package netd

import (
	"bytes"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"resinos/mounts/testenv"
	"resinos/net/arp"
	"resinos/net/link/linktest"
)

// TestConflict: a station that nobody asked has the address that the server grants. The kernel of the far end answers
// for it.
func TestConflict(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.far.Address("10.9.0.50/24")
	d.dnsmasq("--dhcp-range=10.9.0.50,10.9.0.51,255.255.255.0,1h", "--dhcp-sequential-ip")
	d.start()
	d.eventually("another address, and the first one gone", has(t, "10.9.0.51/24"))
	for _, want := range []string{"10.9.0.50 is in use by", "message=DECLINE"} {
		if !strings.Contains(d.log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
}

// TestLateConflict: who claims the address while it is in use already gets it; neither the lease nor the wait for it
// came later.
func TestLateConflict(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	var mu sync.Mutex
	next, declined := byte(120), ""
	d.impostor(func(w *wire, m request) {
		mu.Lock()
		defer mu.Unlock()
		grant := func(r *dhcpv4.DHCPv4) { r.YourIPAddr[3] = next }
		switch m.MessageType() {
		case typeDiscover:
			w.reply(m, typeOffer, "10.9.0.1", grant)
		case typeRequest:
			w.reply(m, typeAck, "10.9.0.1", grant)
		case dhcpv4.MessageTypeDecline:
			declined = m.RequestedIPAddress().String()
			next++
		}
	})
	d.start()
	first := d.lease()
	if first.Address.String() != "10.9.0.120/24" {
		t.Fatalf("lease = %s", first.Address)
	}
	var far *arp.Socket
	d.far.Do(func() (err error) {
		far, err = arp.Open(d.far.Index, d.far.Name, d.far.Hardware(), netip.MustParseAddr("10.9.0.120"))
		return err
	})
	defer far.Close()
	if err := far.Announce(); err != nil {
		t.Fatal(err)
	}
	if second := d.lease(); second.Address.String() != "10.9.0.121/24" {
		t.Errorf("after the conflict the lease is %s", second.Address)
	}
	d.eventually("the new address alone", has(t, "10.9.0.121/24"))
	mu.Lock()
	defer mu.Unlock()
	if declined != "10.9.0.120" {
		t.Errorf("declined %q", declined)
	}
}

// TestProbesOnTheWire: three questions without an address of ours, then two announcements, and silence from then on.
func TestProbesOnTheWire(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.dnsmasq("--dhcp-range=10.9.0.60,10.9.0.60,255.255.255.0,1h")
	var far *arp.Socket
	d.far.Do(func() (err error) { // it hears who has or wants the address
		far, err = arp.Open(d.far.Index, d.far.Name, d.far.Hardware(), netip.MustParseAddr("10.9.0.60"))
		return err
	})
	heard := make(chan []byte, 100)
	var listening sync.WaitGroup
	listening.Go(func() {
		for {
			who, err := far.Receive()
			if err != nil {
				return
			}
			heard <- who
		}
	})
	d.start()
	d.lease()
	for range 5 {
		if who := testenv.Receive(t, "five words on the wire", heard); bytes.Equal(who, d.far.Hardware()) {
			t.Error("it hears itself")
		}
	}
	far.Close()
	listening.Wait()
	d.eventually("the end of the check", checked)
}

// checked reports whether nobody here listens for ARP.
func checked() bool {
	// the protocol is the fourth column; the main thread may be elsewhere
	sockets, err := os.ReadFile("/proc/thread-self/net/packet")
	return err == nil && !strings.Contains(string(sockets), " 0806 ")
}
