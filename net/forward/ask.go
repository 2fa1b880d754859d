package forward

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"resinos/net/dnswire"
)

// The times of one question. Clients ask again after 5 s by default.
const (
	patience = 4 * time.Second        // for all servers together
	hedge    = 700 * time.Millisecond // until the next server is asked too
	again    = 1200 * time.Millisecond
)

// maxForged is how many messages that are no answer are read for one question. An attacker who sends more makes us ask
// over TCP, where forging is of no use.
const maxForged = 32

// ask asks one server until ctx ends. Each question has a new socket with a random port, an id and a spelling of its
// own; the kernel drops what comes from other addresses.
func ask(ctx context.Context, q dnswire.Question, server netip.AddrPort) (dnswire.Reply, error) {
	reply, err := overUDP(ctx, q, server, true)
	if err == nil && (reply.Code == dnswire.Format || reply.Code == dnswire.NotDone) {
		reply, err = overUDP(ctx, q, server, false) // an old server, which does not know EDNS
	}
	if err == nil && !reply.Truncated {
		return reply, nil
	}
	if err == nil || errors.Is(err, errForged) || errors.Is(err, dnswire.ErrSpelling) {
		return overTCP(ctx, q, server)
	}
	return reply, err
}

var errForged = errors.New("too many replies to other questions")

func compose(q dnswire.Question, edns bool) dnswire.Sent {
	var random [2 + 32]byte
	rand.Read(random[:]) // never fails (Go 1.24)
	return q.Ask(binary.BigEndian.Uint16(random[:2]), random[2:], edns)
}

func overUDP(ctx context.Context, q dnswire.Question, server netip.AddrPort, edns bool) (dnswire.Reply, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp", server.String())
	if err != nil {
		return dnswire.Reply{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	sent := compose(q, edns)
	buf := make([]byte, 4096)
	forged := 0
	for try := 0; ; try++ {
		if _, err := conn.Write(sent.Bytes); err != nil {
			return dnswire.Reply{}, err
		}
		if ctx.Err() != nil {
			return dnswire.Reply{}, context.Cause(ctx)
		}
		if try == 0 {
			conn.SetReadDeadline(time.Now().Add(again))
		} else {
			conn.SetReadDeadline(time.Time{}) // ctx ends it
		}
		if ctx.Err() != nil {
			return dnswire.Reply{}, context.Cause(ctx) // it may have ended between the two
		}
		reply, err := receive(conn, sent, buf, &forged)
		if try == 0 && errors.Is(err, errAgain) {
			continue
		}
		return reply, err
	}
}

var errAgain = errors.New("no reply yet")

// receive reads until there is an answer to what was sent.
func receive(conn net.Conn, sent dnswire.Sent, buf []byte, forged *int) (dnswire.Reply, error) {
	for {
		n, err := conn.Read(buf)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return dnswire.Reply{}, errAgain
		}
		if err != nil {
			return dnswire.Reply{}, err
		}
		reply, err := sent.ParseReply(buf[:n])
		if !errors.Is(err, dnswire.ErrOther) {
			return reply, err
		}
		if *forged++; *forged >= maxForged {
			return dnswire.Reply{}, errForged
		}
	}
}

func overTCP(ctx context.Context, q dnswire.Question, server netip.AddrPort) (dnswire.Reply, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", server.String())
	if err != nil {
		return dnswire.Reply{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	sent := compose(q, true)
	if _, err := conn.Write(framed(sent.Bytes)); err != nil {
		return dnswire.Reply{}, err
	}
	message, err := readFramed(conn)
	if err != nil {
		return dnswire.Reply{}, err
	}
	reply, err := sent.ParseReply(message)
	if err == nil && reply.Truncated {
		err = fmt.Errorf("server %s truncates over TCP: %w", server, dnswire.ErrReply)
	}
	return reply, err
}

// framed returns a message behind its length, as TCP carries it.
func framed(p []byte) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(p)), uint16(len(p))), p...)
}

func readFramed(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	p := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, p)
	return p, err
}
