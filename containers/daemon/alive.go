package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	api "github.com/containerd/containerd/api/services/namespaces/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"resinos/services/notify"
)

// askTime is how long the server may take to answer its own question. A store that waits for a slow disk is not dead.
const askTime = 20 * time.Second

// askPause is the pause between a question without an answer and the next one.
const askPause = time.Second

// vital sends watchdog messages only while the server answers as it must answer the manager: over its socket, from its
// store.
type vital struct {
	pulse  *notify.Pulse
	conn   *grpc.ClientConn
	well   func() error
	log    *slog.Logger
	silent bool // the last question had no answer, and that was logged
}

// watchOver prepares the questions; it does not connect before the first one.
func watchOver(c Config) (*vital, error) {
	conn, err := grpc.NewClient("unix://"+c.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("watch over %s: %w", c.Socket, err)
	}
	return &vital{pulse: c.Alive, conn: conn, well: c.Well, log: c.Log}, nil
}

// left returns the time until the next question.
func (v *vital) left() time.Duration {
	if v.silent {
		return max(v.pulse.Left(), askPause)
	}
	return v.pulse.Left()
}

// beat asks the server, and sends a watchdog message if it answers.
func (v *vital) beat(ctx context.Context) {
	err := v.ask(ctx)
	if err == nil && v.well != nil {
		err = v.well()
	}
	if err == nil {
		v.pulse.Beat()
	}
	if err != nil && !v.silent && ctx.Err() == nil {
		v.log.Warn("own server does not answer, or the manager hangs", "error", err)
	}
	v.silent = err != nil
}

// ask lists the namespaces, which are few and are read from the store.
func (v *vital) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	_, err := api.NewNamespacesClient(v.conn).List(ctx, &api.ListNamespacesRequest{}, grpc.WaitForReady(true))
	return err
}

func (v *vital) close() {
	_ = v.conn.Close() // no call is running
}
