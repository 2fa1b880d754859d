package sshconn

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"resinos/net/sshmsg"
)

// acceptPause is the pause after a connection could not be accepted.
const acceptPause = 100 * time.Millisecond

// halfConn is a connection whose directions can be closed separately.
type halfConn interface {
	net.Conn
	CloseWrite() error
}

// forward connects a channel to a TCP port that the device can reach (RFC 4254, 7.2).
func (c *connection) forward(ctx context.Context, ch ssh.NewChannel) {
	var p struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(ch.ExtraData(), &p); err != nil {
		ch.Reject(ssh.ConnectionFailed, "unreadable request") // an error means that the client is gone
		return
	}
	files, err := c.gate.request(sshmsg.Dial{Host: p.Host, Port: p.Port}, &sshmsg.Done{}, 1)
	var conn halfConn
	if err == nil {
		conn, err = tcpOf(files[0])
	}
	if err != nil {
		ch.Reject(ssh.ConnectionFailed, err.Error()) // as above
		return
	}
	defer conn.Close() // both directions have ended
	channel, requests, err := ch.Accept()
	if err != nil {
		return
	}
	c.log.Debug("port forwarded", "to", remoteOf(conn))
	join(ctx, channel, requests, conn)
}

// join copies in both directions until both sides have finished sending, or ctx is cancelled. The end of one direction
// closes only that direction: a client that has sent its request still waits for the answer.
func join(ctx context.Context, channel ssh.Channel, requests <-chan *ssh.Request, conn halfConn) {
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // the client is gone
	defer stop()
	var copies, talk sync.WaitGroup
	talk.Go(func() { ssh.DiscardRequests(requests) })
	copies.Go(func() {
		if _, err := io.Copy(conn, channel); err != nil {
			conn.Close() // the other end reads no more: end the other copy too
		}
		conn.CloseWrite() // it may be closed
	})
	if _, err := io.Copy(channel, conn); err == nil {
		channel.CloseWrite() // an error means that the client is gone
	} else {
		channel.Close() // as above; it also ends the other copy
	}
	copies.Wait()
	channel.Close() // it may be closed
	talk.Wait()
}

// relay opens a channel to the client for each connection that l accepts, until l is closed. opening returns the kind
// of the channel and its data.
func (c *connection) relay(ctx context.Context, l net.Listener, opening func(net.Conn) (kind string, extra []byte)) {
	var open sync.WaitGroup
	defer open.Wait()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors: wait
			select {
			case <-ctx.Done():
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		half, ok := conn.(halfConn)
		if !ok || !c.take() {
			conn.Close() // nothing has been said on it
			continue
		}
		open.Go(func() {
			defer c.giveBack()
			defer conn.Close() // both directions have ended
			kind, extra := opening(conn)
			channel, requests, err := c.client.OpenChannel(kind, extra)
			if err != nil {
				return // the client no longer wants it
			}
			join(ctx, channel, requests, half)
		})
	}
}
