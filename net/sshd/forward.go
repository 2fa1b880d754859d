package sshd

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// dialTimeout bounds how long a forwarded port may take to answer.
const dialTimeout = 10 * time.Second

// forward connects a channel to a TCP port that the device can reach (RFC 4254, 7.2).
func (s *server) forward(ctx context.Context, _ *ssh.ServerConn, ch ssh.NewChannel, log *slog.Logger) {
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
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(p.Host, strconv.FormatUint(uint64(p.Port), 10)))
	if err != nil {
		ch.Reject(ssh.ConnectionFailed, err.Error()) // as above
		return
	}
	defer conn.Close() // both directions have ended
	channel, requests, err := ch.Accept()
	if err != nil {
		return
	}
	log.Debug("port forwarded", "to", conn.RemoteAddr().String())
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // the client is gone
	defer stop()
	join(channel, requests, conn.(*net.TCPConn))
}

// join copies both ways until both sides have finished sending. One side's end is passed on alone: a client that has
// sent its question still waits for the answer.
func join(channel ssh.Channel, requests <-chan *ssh.Request, conn *net.TCPConn) {
	var copies, talk sync.WaitGroup
	talk.Go(func() { ssh.DiscardRequests(requests) })
	copies.Go(func() {
		if _, err := io.Copy(conn, channel); err != nil {
			conn.Close() // the other end takes no more: let the other copy end, too
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
