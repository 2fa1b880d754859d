// Package nameserver answers the name questions of containers: it knows the names of their neighbours itself and asks
// the device's name servers for all others.
//
// It never caches: the servers that it asks have caches, and so an answer is never wrong for long. It knows nothing of
// containers: the source address of a question identifies the client.
//
// Read first: Server.
package nameserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Zone lists the clients of one network by address.
type Zone map[netip.Addr]Client

// Client is what one client may ask.
type Client struct {
	Names    map[string][]netip.Addr // addresses by name, in small letters, without the last dot
	Upstream []string                // servers instead of the device's, with their ports
	Closed   bool                    // no server is asked for this client
}

// FromFile returns a function that reads the servers in a resolv.conf at each call.
func FromFile(path string) func() []string {
	return func() []string {
		config, err := dns.ClientConfigFromFile(path)
		if err != nil {
			return nil // a device without a network
		}
		var out []string
		for _, server := range config.Servers {
			out = append(out, net.JoinHostPort(server, config.Port))
		}
		return out
	}
}

// Server answers questions on the addresses of networks. Set opens and closes its sockets. A Server with Upstream and
// Log set is ready for use.
type Server struct {
	Upstream func() []string // returns the device's current servers, with their ports
	Log      *slog.Logger

	mu    sync.Mutex // guards what follows
	zones map[netip.Addr]*socket
}

// socket is one address on which the server answers.
type socket struct {
	zone    atomic.Pointer[Zone]
	conn    *net.UDPConn
	streams *dns.Server
	done    sync.WaitGroup // of what reads the sockets
	asking  sync.WaitGroup // of what came by UDP and is for other servers
}

const (
	ttl = 5 // seconds: a container that is created again soon has another address
	// patience is the time for all servers; by default resolvers wait five seconds before they ask again. The device's
	// forwarder, usually the only server, needs four if its servers are silent.
	patience = 5 * time.Second
	// atOnce limits the questions that wait for servers, and with them the memory that containers can use.
	atOnce = 128
)

// Set serves these zones, each on port of its address, and no others. The error lists the zones that cannot be served;
// all others are served.
func (s *Server) Set(zones map[netip.Addr]Zone, port uint16) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.zones == nil {
		s.zones = map[netip.Addr]*socket{}
	}
	for at, k := range s.zones {
		if _, wanted := zones[at]; !wanted {
			k.close()
			delete(s.zones, at)
		}
	}
	var errs error
	for at, zone := range zones {
		k, ok := s.zones[at]
		if !ok {
			var err error
			if k, err = s.open(netip.AddrPortFrom(at, port)); err != nil {
				errs = errors.Join(errs, err)
				continue
			}
			s.zones[at] = k
		}
		k.zone.Store(&zone)
	}
	return errs
}

// Close ends all sockets.
func (s *Server) Close() { _ = s.Set(nil, 0) } // nothing is opened, so nothing can fail

func (s *Server) open(at netip.AddrPort) (*socket, error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("serve names: %w", err)
	}
	streams, err := net.Listen("tcp4", at.String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serve names: %w", err), conn.Close())
	}
	slots := make(chan struct{}, atOnce)
	k := &socket{conn: conn}
	k.zone.Store(&Zone{})
	k.streams = &dns.Server{Listener: streams, MaxTCPQueries: 32, Handler: dns.HandlerFunc(
		func(w dns.ResponseWriter, q *dns.Msg) {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			default:
				return // the client asks again
			}
			s.answer(w, q, *k.zone.Load())
		})}
	started := make(chan struct{})
	k.streams.NotifyStartedFunc = func() { close(started) }
	serve := func(run func() error) {
		k.done.Go(func() {
			if err := run(); err != nil {
				s.Log.Warn("names not served", "address", at.String(), "error", err)
			}
		})
	}
	serve(k.streams.ActivateAndServe)
	serve(func() error { return s.packets(conn, k, slots) })
	<-started // to shut down a server that has not started is an error
	return k, nil
}

func (k *socket) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = k.conn.Close()                 // nothing is unsaved
	_ = k.streams.ShutdownContext(ctx) // the socket is closed at once; only waiting questions are left
	k.settle()
	k.done.Wait()
}

// answer sends a reply on a connection, or a failure if no server answers, so that the client does not wait.
func (s *Server) answer(w dns.ResponseWriter, q *dns.Msg, zone Zone) {
	client, known := zone[addrOf(w.RemoteAddr())]
	reply := local(q, client)
	switch {
	case !known:
		reply = new(dns.Msg).SetRcode(q, dns.RcodeRefused)
	case reply == nil:
		reply = s.further(q, client, "tcp")
	}
	_ = w.WriteMsg(reply) // the client may be gone
}

// further has other servers answer.
func (s *Server) further(q *dns.Msg, client Client, network string) *dns.Msg {
	servers := client.Upstream
	if servers == nil {
		servers = s.Upstream()
	}
	return ask(q, network, servers)
}

func size(q *dns.Msg) int {
	if o := q.IsEdns0(); o != nil {
		return max(dns.MinMsgSize, int(o.UDPSize()))
	}
	return dns.MinMsgSize
}

func addrOf(a net.Addr) netip.Addr {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// local returns the answer that needs no server, or nil. It is pure.
func local(q *dns.Msg, client Client) *dns.Msg {
	reply := new(dns.Msg)
	if len(q.Question) != 1 || q.Opcode != dns.OpcodeQuery {
		return reply.SetRcode(q, dns.RcodeFormatError)
	}
	asked := q.Question[0]
	name := strings.ToLower(strings.TrimSuffix(asked.Name, "."))
	addresses, ok := client.Names[name]
	switch {
	case ok:
		reply.SetReply(q)
		reply.Authoritative, reply.RecursionAvailable = true, true
		for _, a := range addresses {
			header := dns.RR_Header{Name: asked.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
			var rr dns.RR = &dns.A{Hdr: header, A: a.AsSlice()}
			if a.Is6() {
				header.Rrtype = dns.TypeAAAA
				rr = &dns.AAAA{Hdr: header, AAAA: a.AsSlice()}
			}
			if asked.Qtype == header.Rrtype || asked.Qtype == dns.TypeANY {
				reply.Answer = append(reply.Answer, rr)
			}
		}
		return reply // it has no address of this type, and no server knows the name
	case client.Closed:
		return reply.SetRcode(q, dns.RcodeNameError)
	}
	return nil
}

// ask sends the question to one server after another until one answers.
func ask(q *dns.Msg, network string, servers []string) *dns.Msg {
	each := max(patience/time.Duration(max(len(servers), 1)), patience/3)
	client := dns.Client{Net: network, Timeout: each, UDPSize: dns.DefaultMsgSize}
	for _, server := range servers {
		reply, _, err := client.Exchange(q, server)
		if err == nil && reply.Rcode != dns.RcodeServerFailure && reply.Rcode != dns.RcodeRefused {
			return reply
		}
	}
	return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
}
