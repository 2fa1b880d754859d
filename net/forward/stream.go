package forward

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"resinos/net/dnswire"
)

// The times of a connection. A client that is slower, as one that wants to use up our connections, is cut off.
const (
	streamIdle  = 10 * time.Second // until a question has arrived as a whole
	streamWrite = 2 * time.Second
	maxStreamed = 64 // questions of one connection
)

func (f *Forwarder) serveStreams(ctx context.Context, streams net.Listener) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := streams.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select { // no descriptor is left: one is closed soon
			case <-time.After(time.Second):
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case f.slots <- struct{}{}:
		default:
			conn.Close() // the client tries again
			continue
		}
		all.Go(func() {
			defer func() { <-f.slots }()
			f.serveStream(ctx, conn)
		})
	}
}

// serveStream answers the questions of one connection, one after the other.
func (f *Forwarder) serveStream(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	for range maxStreamed {
		conn.SetReadDeadline(time.Now().Add(streamIdle))
		if ctx.Err() != nil {
			return
		}
		p, err := readFramed(conn)
		if err != nil {
			return
		}
		query, code, err := dnswire.ParseQuery(p)
		if err != nil {
			return
		}
		answers := make(chan []byte, 1)
		f.handle(query, code, func(p []byte) { answers <- p })
		timer := time.NewTimer(patience + time.Second)
		select {
		case p = <-answers:
		case <-timer.C: // dropped: too many wait
			return
		case <-ctx.Done():
			return
		}
		timer.Stop()
		conn.SetWriteDeadline(time.Now().Add(streamWrite))
		if _, err := conn.Write(framed(p)); err != nil {
			return
		}
	}
}
