package boottest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/vishvananda/netlink"
)

// ntp ADDRESS [OFFSET]: an NTP server begins to answer in the lab whose clock is OFFSET (like 48h) before this host's;
// it ends with the story. ntp stop: all that this story began fall silent.
func cmdNTP(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, (len(args) == 1 || len(args) == 2) && !neg, "ntp ADDRESS [OFFSET], ntp stop")
	s := sceneOf(ts)
	if args[0] == "stop" {
		for _, stop := range s.clocks {
			stop()
		}
		s.clocks = nil
		return
	}
	offset := time.Duration(0)
	if len(args) == 2 {
		var err error
		offset, err = time.ParseDuration(args[1])
		ts.Check(err)
	}
	home, err := netip.ParseAddr(args[0])
	ts.Check(err)
	stop, err := s.device.lab.serveTime(home, offset)
	ts.Check(err)
	s.clocks = append(s.clocks, stop)
	ts.Defer(stop)
}

// serveTime answers NTP questions on an address of the lab, which the bridge takes for it.
func (l *Lab) serveTime(home netip.Addr, offset time.Duration) (stop func(), err error) {
	address, err := netlink.ParseAddr(home.String() + "/32")
	if err != nil {
		return nil, fmt.Errorf("serve time: %w", err)
	}
	if err := netlink.AddrAdd(l.bridge, address); err != nil && !errors.Is(err, os.ErrExist) &&
		home.String() != Gateway {
		return nil, fmt.Errorf("serve time on %s: %w", home, err)
	}
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(home, 123)))
	if err != nil {
		return nil, fmt.Errorf("serve time: %w", err)
	}
	done := make(chan struct{}) // closed when nothing is answered any more
	go func() {
		defer close(done)
		question := make([]byte, 512)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(question)
			if err != nil {
				return
			}
			if n >= 48 {
				// who asked will notice
				_, _ = conn.WriteToUDPAddrPort(timeAnswer(question, time.Now().Add(offset)), from)
			}
		}
	}()
	return func() {
		_ = conn.Close() // it may be closed already
		<-done
	}, nil
}

// timeAnswer is the packet of an NTP server at stratum 2 (RFC 5905, figure 8).
func timeAnswer(question []byte, now time.Time) []byte {
	since := now.Sub(time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC))
	stamp := uint64(since/time.Second)<<32 | uint64(since%time.Second)<<32/uint64(time.Second)
	out := make([]byte, 48)
	out[0], out[1], out[3] = 4<<3|4, 2, 0xec // version 4, server; stratum; precision of a microsecond
	copy(out[12:], "LAB.")
	copy(out[24:32], question[40:48])
	for _, at := range []int{16, 32, 40} { // reference, receive, transmit
		binary.BigEndian.PutUint64(out[at:], stamp)
	}
	return out
}
