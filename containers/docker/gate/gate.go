// Package gate connects the sockets that PID 1 holds with the daemon that serves Docker's API: it passes each
// connection on to the daemon's own socket, and detects when nobody has needed the daemon for a while. The daemon
// itself cannot: it neither counts its connections nor ends by itself. The package reads none of the bytes.
//
// It links nothing of moby, so that its tests need no build of it. Read Gate first.
package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// dialPause is the time between two tries to reach a daemon that is not up yet.
const dialPause = 50 * time.Millisecond

// Gate hands connections on.
type Gate struct {
	// Dial connects to the daemon. It fails as long as the daemon is not up.
	Dial func(ctx context.Context) (net.Conn, error)
	// Idle is how long there has to be neither a connection nor a container before Run returns.
	Idle time.Duration
	// Busy reports whether the daemon has containers that run. An error counts as busy.
	Busy func(ctx context.Context) (bool, error)
	Log  *slog.Logger
}

// Run serves the listeners, which it closes, until ctx is done or the daemon is idle; both return nil. A connection
// that comes while Run ends is served to its end, or waits in the socket, of which PID 1 has a descriptor too. An error
// is that of a listener.
func (g *Gate) Run(ctx context.Context, listeners []net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	accepting, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	moves := make(chan int) // +1 for a connection that came, -1 for one that is over
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		all.Go(func() {
			<-accepting.Done()
			_ = l.Close() // ends Accept; PID 1 keeps the socket
		})
		all.Go(func() {
			if err := g.accept(ctx, accepting, l, moves, &all); err != nil && accepting.Err() == nil {
				failed <- fmt.Errorf("accept on %s: %w", l.Addr(), err)
			}
		})
	}
	err := g.wait(ctx, moves, failed)
	if err != nil {
		cancel()
	}
	stop()
	all.Wait()
	return err
}

// wait counts the connections, and returns when there is none for g.Idle and no container runs.
func (g *Gate) wait(ctx context.Context, moves <-chan int, failed <-chan error) error {
	open := 0
	idle := time.NewTimer(g.Idle)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case n := <-moves:
			open += n
			idle.Reset(g.Idle)
		case <-idle.C:
			if open == 0 && !g.busy(ctx) {
				return nil
			}
			idle.Reset(g.Idle)
		}
	}
}

func (g *Gate) busy(ctx context.Context) bool {
	busy, err := g.Busy(ctx)
	if err != nil {
		g.Log.Warn("running containers not listed", "error", err)
	}
	return busy || err != nil
}

// accept takes connections until accepting is done, and serves each until ctx is done.
func (g *Gate) accept(ctx, accepting context.Context, l net.Listener, moves chan<- int, all *sync.WaitGroup) error {
	for {
		client, err := l.Accept()
		if err != nil {
			return err
		}
		move := func(n int) {
			select {
			case moves <- n:
			case <-accepting.Done(): // nobody counts any more
			}
		}
		move(+1)
		all.Go(func() {
			defer move(-1)
			if err := g.serve(ctx, client); err != nil && ctx.Err() == nil {
				g.Log.Warn("connection not handed on", "error", err)
			}
		})
	}
}

// serve hands one connection on, and returns when both its ends are closed.
func (g *Gate) serve(ctx context.Context, client net.Conn) error {
	defer client.Close() // both directions are over
	daemon, err := g.dial(ctx)
	if err != nil {
		return err
	}
	defer daemon.Close() // the same
	defer context.AfterFunc(ctx, func() {
		_ = client.Close()
		_ = daemon.Close()
	})()
	Join(client, daemon)
	return nil
}

// dial waits for a daemon that is just starting.
func (g *Gate) dial(ctx context.Context) (net.Conn, error) {
	for {
		conn, err := g.Dial(ctx)
		if err == nil {
			return conn, nil
		}
		pause := time.NewTimer(dialPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil, errors.Join(context.Cause(ctx), err)
		case <-pause.C:
		}
	}
}

// Join copies in both directions until both are over. The end of one direction is handed on, and the other one goes on:
// docker closes its input and still reads. A direction that breaks ends both.
func Join(a, b io.ReadWriteCloser) {
	var both sync.WaitGroup
	for _, way := range [][2]io.ReadWriteCloser{{a, b}, {b, a}} {
		from, to := way[0], way[1]
		both.Go(func() {
			_, err := io.Copy(to, from)
			half, ok := to.(interface{ CloseWrite() error })
			if err == nil && ok {
				err = half.CloseWrite()
			}
			if err != nil || !ok {
				_ = from.Close()
				_ = to.Close()
			}
		})
	}
	both.Wait()
}
