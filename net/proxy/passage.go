package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The limits on connections. A connection without traffic costs two goroutines and no buffer.
const (
	most        = 512 // connections at once
	mostForeign = 384 // of containers
	chunk       = 16 << 10
)

// passages carries the connections of the listeners.
type passages struct {
	dial    func(ctx context.Context, to netip.AddrPort, client net.Conn) (net.Conn, []byte, error)
	buffers sync.Pool // of *[chunk]byte
	running sync.WaitGroup

	mu      sync.Mutex // guards what follows
	all     int
	foreign int
}

// accept serves a listener until it is closed.
func (p *passages) accept(ctx context.Context, l *net.TCPListener) {
	for {
		conn, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptors or memory left
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		foreign := !own(conn)
		if !p.enter(foreign) {
			reset(conn)
			continue
		}
		p.running.Go(func() {
			defer p.leave(foreign)
			p.carry(ctx, conn)
		})
	}
}

// own reports whether the device itself has made a connection: then it comes over lo.
func own(conn *net.TCPConn) bool {
	a, ok := conn.LocalAddr().(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}

func (p *passages) enter(foreign bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == most || foreign && p.foreign == mostForeign {
		return false
	}
	p.all++
	if foreign {
		p.foreign++
	}
	return true
}

func (p *passages) leave(foreign bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	if foreign {
		p.foreign--
	}
}

// carry connects one connection with where it wanted to go, until both sides have ended or one has broken.
func (p *passages) carry(ctx context.Context, conn *net.TCPConn) {
	to, err := meant(conn)
	at := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	if err != nil || to == netip.AddrPortFrom(at.Addr().Unmap(), at.Port()) {
		reset(conn) // nobody redirected it: somebody connects with the port itself
		return
	}
	through, early, err := p.dial(ctx, to, conn)
	if err != nil {
		reset(conn)
		return
	}
	up, ok := through.(*net.TCPConn)
	if !ok {
		panic("the proxy server is reached over TCP")
	}
	end := context.AfterFunc(ctx, func() { reset(conn); reset(up) })
	defer end()
	if len(early) > 0 {
		if _, err := conn.Write(early); err != nil {
			reset(conn)
			reset(up)
			return
		}
	}
	var back sync.WaitGroup
	back.Go(func() { p.pump(conn, up) })
	p.pump(up, conn)
	back.Wait()
	conn.Close() // both directions have ended
	up.Close()
}

// pump passes what src sends to dst until src ends, which ends that direction of dst too. If one side breaks, both do.
func (p *passages) pump(dst, src *net.TCPConn) {
	raw, err := src.SyscallConn()
	for err == nil {
		var buf *[chunk]byte
		n, fault := 0, error(nil)
		err = raw.Read(func(fd uintptr) bool { // while nothing comes, no buffer is held
			buf = p.buffer()
			n, fault = unix.Read(int(fd), buf[:])
			if fault == unix.EAGAIN || fault == unix.EINTR {
				p.buffers.Put(buf)
				buf = nil
				return false
			}
			return true
		})
		err = errors.Join(err, fault)
		if err == nil && n == 0 {
			p.buffers.Put(buf)
			_ = dst.CloseWrite() // it fails if the other direction has broken
			return
		}
		if err == nil {
			_, err = dst.Write(buf[:n])
		}
		if buf != nil {
			p.buffers.Put(buf)
		}
	}
	reset(src)
	reset(dst)
}

func (p *passages) buffer() *[chunk]byte {
	if buf, ok := p.buffers.Get().(*[chunk]byte); ok {
		return buf
	}
	return new([chunk]byte)
}

// reset closes a connection so that the other end sees that it broke.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0) // it fails if the connection is closed already, and so may the next
	conn.Close()
}

// meant returns the address that a redirected connection was made to (SO_ORIGINAL_DST of linux/netfilter_ipv4.h, and
// its twin for IPv6).
func meant(conn *net.TCPConn) (to netip.AddrPort, err error) {
	const originalDestination = 80
	raw, err := conn.SyscallConn()
	if err != nil {
		return to, err
	}
	six := conn.LocalAddr().(*net.TCPAddr).IP.To4() == nil
	control := raw.Control(func(fd uintptr) {
		if six {
			var info *unix.IPv6MTUInfo // begins with a sockaddr_in6
			if info, err = unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_IPV6, originalDestination); err == nil {
				port := binary.NativeEndian.AppendUint16(nil, info.Addr.Port)
				to = netip.AddrPortFrom(netip.AddrFrom16(info.Addr.Addr), binary.BigEndian.Uint16(port))
			}
			return
		}
		var address *unix.IPv6Mreq // has the 16 bytes of a sockaddr_in
		if address, err = unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, originalDestination); err == nil {
			b := address.Multiaddr
			to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4]))
		}
	})
	return to, errors.Join(control, err)
}
