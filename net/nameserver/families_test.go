package nameserver

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// TestFamilies: who asks for addresses of one family gets those, and none of the other one.
func TestFamilies(t *testing.T) {
	client := Client{Names: map[string][]netip.Addr{"web": {netip.MustParseAddr("10.0.0.2"),
		netip.MustParseAddr("fd00::2")}}}
	for kind, want := range map[uint16]string{dns.TypeA: "10.0.0.2", dns.TypeAAAA: "fd00::2"} {
		reply := local(new(dns.Msg).SetQuestion("web.", kind), client)
		if len(reply.Answer) != 1 || reply.Answer[0].Header().Rrtype != kind {
			t.Fatalf("%v", reply)
		}
		if got := dns.Field(reply.Answer[0], 1); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if reply := local(new(dns.Msg).SetQuestion("web.", dns.TypeANY), client); len(reply.Answer) != 2 {
		t.Errorf("%v", reply)
	}
}
