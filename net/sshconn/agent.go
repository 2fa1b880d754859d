package sshconn

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// agent is a socket on the device behind which the client's keys answer (ssh -A). Who is root on the device can use them while the
// session lasts, as with every server.
type agent struct {
	dir      string
	listener net.Listener
	stop     context.CancelFunc // ends the questions under way
	running  sync.WaitGroup
}

// openAgent makes the socket in a directory of its own, which only root can enter.
func (c *connection) openAgent(ctx context.Context) (*agent, error) {
	dir, err := os.MkdirTemp("", "ssh-")
	if err != nil {
		return nil, fmt.Errorf("open agent socket: %w", err)
	}
	a := &agent{dir: dir}
	ctx, a.stop = context.WithCancel(ctx)
	if a.listener, err = net.Listen("unix", a.path()); err != nil {
		a.stop()
		_ = os.RemoveAll(dir) // empty, and made a moment ago
		return nil, fmt.Errorf("open agent socket: %w", err)
	}
	a.running.Go(func() {
		c.relay(ctx, a.listener, func(net.Conn) (string, []byte) { return "auth-agent@openssh.com", nil })
	})
	return a, nil
}

func (a *agent) path() string { return filepath.Join(a.dir, "agent") }

// close removes the socket and ends the questions under way.
func (a *agent) close() {
	if a == nil {
		return
	}
	a.stop()
	a.listener.Close()      // removes the socket
	_ = os.RemoveAll(a.dir) // on a tmpfs; what is left there goes with the next boot
	a.running.Wait()
}
