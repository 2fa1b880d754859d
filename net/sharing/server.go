package sharing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/net/addresspool"
	"resinos/net/arp"
	"resinos/services/boottime"
)

// server is the DHCP server of one link. One goroutine owns it.
type server struct {
	link    Link
	pool    *addresspool.Machine
	file    string // of the leases; empty: they are not kept
	log     *slog.Logger
	conn    *net.UDPConn
	heard   chan claim
	asked   map[netip.Addr]*arp.Socket // addresses about which the link is being asked
	readers sync.WaitGroup
	noted   time.Duration // when a note was logged last
}

// claim is what a station said about an address.
type claim struct {
	addr netip.Addr
	who  net.HardwareAddr
}

// The limits on what is read: a client sends a handful of messages, a flood thousands.
const (
	readPause = 10 * time.Millisecond // between two messages
	notePause = 10 * time.Second      // between two lines in the log about clients
	maxFile   = 1 << 20
)

func (s *server) open() error {
	if s.file != "" {
		if text, err := os.ReadFile(s.file); err == nil && len(text) < maxFile {
			s.pool.Restore(text, boottime.Now())
		}
	}
	c, err := onLink(s.link).ListenPacket(context.Background(), "udp4", ":67")
	if err != nil {
		return fmt.Errorf("give out addresses on %s: %w", s.link.Name, err)
	}
	s.conn, s.heard, s.asked = c.(*net.UDPConn), make(chan claim), map[netip.Addr]*arp.Socket{}
	return nil
}

// onLink makes sockets that see only the packets of one link.
func onLink(l Link) *net.ListenConfig {
	return &net.ListenConfig{Control: func(network, _ string, raw syscall.RawConn) (err error) {
		control := raw.Control(func(fd uintptr) {
			err = errors.Join(unix.BindToDevice(int(fd), l.Name),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)) // the address may not be there yet
			if network == "udp6" || network == "tcp6" { // nor be known to be nobody else's
				err = errors.Join(err, unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1))
			}
		})
		return errors.Join(control, err)
	}}
}

// listenNames opens the sockets for name questions to an address of the device on a link.
func listenNames(ctx context.Context, l Link, own netip.Addr) (net.PacketConn, net.Listener, error) {
	at, version := netip.AddrPortFrom(own, 53).String(), "6"
	if own.Is4() {
		version = "4"
	}
	packets, err := onLink(l).ListenPacket(ctx, "udp"+version, at)
	if err != nil {
		return nil, nil, fmt.Errorf("serve names on %s: %w", l.Name, err)
	}
	streams, err := onLink(l).Listen(ctx, "tcp"+version, at)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("serve names on %s: %w", l.Name, err), packets.Close())
	}
	return packets, streams, nil
}

// run serves until ctx ends.
func (s *server) run(ctx context.Context) {
	messages := make(chan []byte)
	ctx, stop := context.WithCancel(ctx)
	s.readers.Go(func() { s.read(ctx, messages) })
	defer s.readers.Wait()
	defer func() {
		for _, one := range s.asked {
			one.Close() // nobody needs its answers
		}
		s.conn.Close()
		stop()
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var due <-chan time.Time
		if at := s.pool.Deadline(); at != 0 {
			timer.Reset(max(at-boottime.Now(), 0))
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return
		case raw := <-messages:
			if q, err := dhcpv4.FromBytes(raw); err == nil {
				s.carry(ctx, s.pool.Receive(boottime.Now(), q))
			}
		case c := <-s.heard:
			s.carry(ctx, s.pool.Heard(boottime.Now(), c.addr, c.who))
		case <-due:
			s.carry(ctx, s.pool.Tick(boottime.Now()))
		}
		s.hush()
	}
}

// read passes messages on, with a pause after each: what comes faster is dropped by the kernel.
func (s *server) read(ctx context.Context, out chan<- []byte) {
	buf := make([]byte, 1500)
	for {
		n, _, err := s.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			select {
			case out <- bytes.Clone(buf[:n]):
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-time.After(readPause): // after an error too: the link may be down
		case <-ctx.Done():
			return
		}
	}
}

func (s *server) carry(ctx context.Context, actions []addresspool.Action) {
	for _, a := range actions {
		switch a.Verb {
		case addresspool.Send:
			s.send(a)
		case addresspool.Probe:
			s.probe(ctx, a.To)
		case addresspool.Save:
			s.save()
		case addresspool.Note:
			s.note(a.Reason)
		}
	}
}

// note logs what a client has brought about: it can do so as often as it likes.
func (s *server) note(text string) {
	now := boottime.Now()
	if s.noted != 0 && now-s.noted < notePause {
		return
	}
	s.noted = now
	s.log.Info("shared link", "reason", text)
}

// send answers a client. A client that cannot be reached at its address yet gets its hardware address into the kernel's
// table: it does not answer who asks for the address.
func (s *server) send(a addresspool.Action) {
	to := a.To
	if !to.Is4() || to.IsUnspecified() {
		return
	}
	given, _ := netip.AddrFromSlice(a.Message.YourIPAddr)
	if !given.Unmap().IsUnspecified() && to == given.Unmap() {
		err := netlink.NeighSet(&netlink.Neigh{LinkIndex: s.link.Index, State: netlink.NUD_REACHABLE,
			IP: net.IP(to.AsSlice()), HardwareAddr: a.Client[:]})
		if err != nil {
			to = netip.AddrFrom4([4]byte{255, 255, 255, 255})
		}
	}
	from := unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(s.link.Index), Spec_dst: s.link.Own.Addr().As4()})
	_, _, err := s.conn.WriteMsgUDPAddrPort(a.Message.ToBytes(), from, netip.AddrPortFrom(to, 68))
	if err != nil {
		s.note(err.Error()) // the client asks again
	}
}

// probe asks the link who has an address, and hears the answers until the pool has decided.
func (s *server) probe(ctx context.Context, a netip.Addr) {
	hardware, _ := net.ParseMAC(s.link.Hardware) // the kernel wrote it
	socket, err := arp.Open(s.link.Index, s.link.Name, hardware, a)
	if err != nil {
		s.note(err.Error()) // the address is given without the check
		return
	}
	s.asked[a] = socket
	s.readers.Go(func() {
		for {
			who, err := socket.Receive()
			if err != nil {
				return // closed, or the link is down
			}
			select {
			case s.heard <- claim{a, who}:
			case <-ctx.Done():
				return
			}
		}
	})
	if err := socket.Probe(); err != nil {
		s.note(err.Error())
	}
}

// hush closes the sockets of addresses that are not being checked any more.
func (s *server) hush() {
	if len(s.asked) == 0 {
		return
	}
	still := map[netip.Addr]bool{}
	for _, a := range s.pool.Checking() {
		still[a] = true
	}
	for a, socket := range s.asked {
		if !still[a] {
			socket.Close() // nobody needs the rest
			delete(s.asked, a)
		}
	}
}

func (s *server) save() {
	if s.file == "" {
		return
	}
	text, err := json.Marshal(s.pool.Leases())
	if err == nil {
		err = os.MkdirAll(filepath.Dir(s.file), 0o755)
	}
	if err == nil { // in RAM: nothing waits for a disk
		beside := s.file + ".new"
		err = errors.Join(os.WriteFile(beside, text, 0o600), os.Rename(beside, s.file))
	}
	if err != nil {
		s.note(err.Error())
	}
}
