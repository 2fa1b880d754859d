package reach

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/net/arp"
	"resinos/net/ruleset/part"
)

// maxAddresses limits how many addresses of the host are tried.
const maxAddresses = 4

// Probe asks once through u how far it gets, and nothing through any other link: all of its sockets are bound to the
// link. It ends within five seconds, or with ctx.
func Probe(ctx context.Context, u Uplink, t Target) Finding {
	if t.Host == "" {
		return askGateway(ctx, u)
	}
	within, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	f := fetch(within, u, t)
	if f.State != Limited {
		return f
	}
	if g := askGateway(ctx, u); g.State == None {
		return g
	}
	return f
}

// fetch asks for the target's URL.
func fetch(ctx context.Context, u Uplink, t Target) Finding {
	addresses, err := u.resolve(ctx, t.Host)
	if err != nil {
		return Finding{Limited, err.Error()}
	}
	last := Finding{Limited, t.Host + " has no address of a family that this link has"}
	for i, a := range addresses {
		share, cancel := context.WithTimeout(ctx, left(ctx)/time.Duration(len(addresses)-i))
		answer, whole, err := exchange(share, u, netip.AddrPortFrom(a, t.Port), t.request())
		cancel()
		if err == nil {
			last = t.judge(answer, whole)
		} else {
			last = Finding{Limited, fmt.Sprintf("%s: %s", a, say(err))}
		}
		if last.State != Limited {
			break
		}
	}
	return last
}

func left(ctx context.Context) time.Duration {
	until, _ := ctx.Deadline()
	return max(time.Until(until), 0)
}

// exchange sends a question and reads the answer, up to its end or maxAnswer. whole says that the end was seen.
func exchange(ctx context.Context, u Uplink, to netip.AddrPort, question string) (p []byte, whole bool, err error) {
	conn, err := u.dialer().DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, false, err
	}
	defer conn.Close() // nothing is left to be sent
	until, _ := ctx.Deadline()
	if err := conn.SetDeadline(until); err != nil {
		return nil, false, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // closing twice does no harm
	defer stop()
	if _, err := conn.Write([]byte(question)); err != nil {
		return nil, false, err
	}
	var b bytes.Buffer
	for buf := make([]byte, 2048); b.Len() < maxAnswer; {
		n, err := conn.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			whole = !errors.Is(err, os.ErrDeadlineExceeded)
			break
		}
		head, _, ended := bytes.Cut(b.Bytes(), []byte("\r\n\r\n"))
		if status, _ := statusOf(head); ended && status == 204 {
			whole = true // such an answer has no body; some servers keep the connection open nevertheless
			break
		}
	}
	if b.Len() == 0 {
		return nil, false, errors.New("it answers nothing")
	}
	return b.Bytes(), whole, nil
}

// dialer dials through the link, and not through a proxy.
func (u Uplink) dialer() *net.Dialer {
	return &net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var fault error
		err := raw.Control(func(fd uintptr) {
			fault = errors.Join(unix.BindToDevice(int(fd), u.Name),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(part.Direct)))
		})
		return errors.Join(err, fault)
	}, KeepAlive: -1}
}

// resolve asks each of the link's own name servers for a host, and returns the answer that comes first.
func (u Uplink) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return u.usable([]netip.Addr{a}), nil
	}
	if len(u.Servers) == 0 {
		return nil, errors.New("the link has no name server to ask for " + host)
	}
	type answer struct {
		list []netip.Addr
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	const tries = 2
	answers := make(chan answer, tries*len(u.Servers))
	for _, server := range u.Servers {
		for i := range tries {
			go func() { // ends with ctx; nobody waits for it
				select {
				case <-time.After(time.Duration(i) * probeTime / 3): // in case the first question is lost
				case <-ctx.Done():
				}
				list, err := u.resolver(server).LookupNetIP(ctx, "ip", host+".")
				answers <- answer{list, err}
			}()
		}
	}
	var last error
	for range cap(answers) {
		a := <-answers
		if a.err == nil {
			return u.usable(a.list), nil
		}
		last = a.err
	}
	return nil, fmt.Errorf("%s: %s", host, say(last))
}

// resolver asks one name server through the link.
func (u Uplink) resolver(server netip.Addr) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return u.dialer().DialContext(ctx, network, netip.AddrPortFrom(server, 53).String())
	}}
}

// usable returns the addresses of families that the link has, IPv4 first.
func (u Uplink) usable(list []netip.Addr) []netip.Addr {
	var four, six []netip.Addr
	for _, a := range list {
		switch a = a.Unmap(); {
		case a.Is4() && u.Four:
			four = append(four, a)
		case a.Is6() && u.Six:
			six = append(six, a)
		}
	}
	if len(four) > maxAddresses/2 && len(six) > 0 {
		four = four[:maxAddresses/2] // leave some tries for the other family
	}
	all := append(four, six...)
	return all[:min(len(all), maxAddresses)]
}

// gatewayTime is how long a gateway has for its answer.
const gatewayTime = time.Second

// askGateway asks the link's gateways whether they are there: by ARP, or by the kernel's neighbour discovery.
func askGateway(ctx context.Context, u Uplink) Finding {
	hardware, err := net.ParseMAC(u.Hardware)
	if len(u.Gateways) == 0 || err != nil || len(hardware) != 6 {
		return Finding{State: Gateway} // a point-to-point link: its carrier says as much
	}
	ctx, cancel := context.WithTimeout(ctx, gatewayTime*time.Duration(1+len(u.Gateways)))
	defer cancel()
	answers := make(chan error, len(u.Gateways))
	for _, g := range u.Gateways {
		go func() { // ends with ctx
			if g.Is4() {
				answers <- askARP(ctx, u, hardware, g)
			} else {
				answers <- askND(ctx, u, g)
			}
		}()
	}
	var last error
	for range u.Gateways {
		if last = <-answers; last == nil {
			return Finding{State: Gateway}
		}
	}
	return Finding{None, last.Error()}
}

func askARP(ctx context.Context, u Uplink, hardware net.HardwareAddr, gateway netip.Addr) error {
	s, err := arp.Open(u.Index, u.Name, hardware, gateway)
	if err != nil {
		return err
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { s.Close() }) // ends Receive
	defer stop()
	heard := make(chan error, 1)
	go func() {
		_, err := s.Receive()
		heard <- err
	}()
	for { // each question may be lost
		if err := s.Probe(); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case err := <-heard:
			if err != nil {
				return fmt.Errorf("the gateway %s does not answer", gateway)
			}
			return nil
		case <-time.After(gatewayTime / 3):
		}
	}
}

// askND has the kernel find the hardware address of an IPv6 gateway by sending it an empty datagram. Whatever the
// gateway does with it: no error means that the kernel has found it.
func askND(ctx context.Context, u Uplink, gateway netip.Addr) error {
	if gateway.IsLinkLocalUnicast() {
		gateway = gateway.WithZone(strconv.Itoa(u.Index))
	}
	d := u.dialer()
	bind := d.Control
	d.Control = func(network, address string, raw syscall.RawConn) error {
		var fault error
		err := raw.Control(func(fd uintptr) {
			// without it, the error is not reported
			fault = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVERR, 1)
		})
		return errors.Join(bind(network, address, raw), err, fault)
	}
	conn, err := d.DialContext(ctx, "udp", netip.AddrPortFrom(gateway, discard).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err = conn.Write(nil); err == nil {
		_ = conn.SetReadDeadline(time.Now().Add(ndTime)) // a socket has deadlines
		_, err = conn.Read(make([]byte, 1))
	}
	if errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH) {
		return fmt.Errorf("the gateway %s does not answer", gateway)
	}
	return nil
}

const (
	discard = 9
	ndTime  = 3500 * time.Millisecond // the kernel gives up after three questions, one a second
)

// say shortens an error of the network.
func say(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "there is no such name"
	case errors.As(err, &dns) && dns.IsTimeout:
		return "no name server answers"
	case errors.As(err, &dns):
		return "the name server says: " + dns.Err
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "no answer"
	case errors.Is(err, unix.ECONNREFUSED):
		return "nothing listens there"
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return "no route to it"
	}
	return err.Error()
}
