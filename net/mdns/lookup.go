package mdns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"resinos/net/dnswire"
)

// The times of a question to others.
const (
	lookupAgain  = time.Second
	lookupEnough = 250 * time.Millisecond // for the other family of a host that has answered
	lookupAll    = 2500 * time.Millisecond
)

// Lookup asks for a name on all links, from a socket of its own, which all responders answer directly. It returns the
// data of the records, and whether the name exists at all.
func (r *Responder) Lookup(ctx context.Context, q dnswire.Question) (data [][]byte, exists bool) {
	now := r.faces.Load()
	if q.Name == now.host {
		return now.own(q.Type), true
	}
	ctx, stop := context.WithTimeout(ctx, lookupAll)
	defer stop()
	replies := make(chan dnswire.Message)
	var links sync.WaitGroup
	for _, f := range now.links {
		for _, four := range []bool{true, false} {
			if len(addressesOf(f.addresses, four)) > 0 {
				links.Go(func() { ask(ctx, f, four, q, replies) })
			}
		}
	}
	go func() { links.Wait(); close(replies) }()
	defer func() {
		stop()
		for range replies { // the last askers end
		}
	}()
	var enough <-chan time.Time
	for {
		select {
		case m, more := <-replies:
			if !more {
				return data, exists
			}
			for _, one := range slices.Concat(m.Answer, m.Further) {
				if one.Name != q.Name || one.Class&^flush != dnswire.ClassIN {
					continue
				}
				exists = true
				known := slices.ContainsFunc(data, func(d []byte) bool { return bytes.Equal(d, one.Data) })
				if one.Type == q.Type && !known {
					data = append(data, one.Data)
				}
			}
			if len(data) > 0 {
				return data, true
			}
			if exists && enough == nil {
				enough = time.After(lookupEnough)
			}
		case <-enough:
			return data, exists
		}
	}
}

// own returns the addresses of the device itself.
func (f *faces) own(kind uint16) (data [][]byte) {
	for _, one := range f.links {
		for _, a := range addressesOf(one.addresses, kind == dnswire.TypeA) {
			if kind == dnswire.TypeA || kind == dnswire.TypeAAAA && !a.IsLinkLocalUnicast() {
				data = append(data, a.AsSlice())
			}
		}
	}
	return data
}

// ask asks on one link and passes replies on until ctx ends. Of the two types of addresses it asks for both, so that
// the answer for one says soon that there is none of the other.
func ask(ctx context.Context, f face, four bool, q dnswire.Question, replies chan<- dnswire.Message) {
	network, at, group := "udp4", netip.IPv4Unspecified(), group4
	if !four {
		network, at, group = "udp6", netip.IPv6Unspecified(), group6.WithZone(f.name)
	}
	conn, err := listen(network, netip.AddrPortFrom(at, 0), f, false)
	if err != nil {
		return // the link is gone
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	m := dnswire.Message{ID: uint16(rand.Uint32()), Questions: []dnswire.Question{{Name: q.Name, Type: q.Type,
		Class: dnswire.ClassIN}}}
	if q.Type == dnswire.TypeA || q.Type == dnswire.TypeAAAA {
		other := m.Questions[0]
		other.Type = dnswire.TypeA + dnswire.TypeAAAA - q.Type
		m.Questions = append(m.Questions, other)
	}
	p, buf := m.Pack(), make([]byte, maxPacket)
	link := &state{addresses: f.addresses}
	for ctx.Err() == nil {
		if _, err := conn.WriteToUDPAddrPort(p, netip.AddrPortFrom(group, port)); err != nil {
			return
		}
		conn.SetReadDeadline(time.Now().Add(lookupAgain))
		for ctx.Err() == nil {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				break
			}
			if err != nil {
				return // the link is gone
			}
			if n < 2 || binary.BigEndian.Uint16(buf) != m.ID || from.Port() != port || !link.near(from.Addr()) {
				continue
			}
			reply, err := dnswire.ParseMessage(buf[:n])
			if err != nil || !reply.Reply {
				continue
			}
			select {
			case replies <- reply:
			case <-ctx.Done():
			}
		}
	}
}
