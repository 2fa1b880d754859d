package sshconn

import (
	"context"
	"net"
	"os"
	"sync"
)

// agent is a socket on the device through which programs use the client's keys (ssh -A). Root's process creates and
// removes it.
type agent struct {
	listener net.Listener
	stop     context.CancelFunc // ends the requests in progress
	running  sync.WaitGroup
}

// serveAgent serves the socket that root's process has passed.
func (c *connection) serveAgent(ctx context.Context, socket *os.File) (*agent, error) {
	list, err := listenersOf([]*os.File{socket})
	if err != nil {
		return nil, err
	}
	a := &agent{listener: list[0]}
	ctx, a.stop = context.WithCancel(ctx)
	a.running.Go(func() {
		c.relay(ctx, a.listener, func(net.Conn) (string, []byte) { return "auth-agent@openssh.com", nil })
	})
	return a, nil
}

// close ends the requests in progress.
func (a *agent) close() {
	if a == nil {
		return
	}
	a.stop()
	a.listener.Close() // nothing was written to it
	a.running.Wait()
}
