package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	api "github.com/containerd/containerd/api/services/namespaces/v1"
	"github.com/containerd/containerd/v2/plugins"
	apis "github.com/containerd/containerd/v2/plugins/services"

	"resinos/services/notify"
)

// askTime is how long the server may take to answer its own question. A store that waits for a slow disk is not dead.
const askTime = 20 * time.Second

// askPause is the pause between a question without an answer and the next one.
const askPause = time.Second

// vital sends watchdog messages only while the server answers as it must answer the manager: from its store. Nobody
// asks through the socket: a connection that is kept for it takes 0.2 MB, and a server that accepts no more ends by
// itself.
type vital struct {
	pulse  *notify.Pulse
	list   func(context.Context) error // asks the server
	well   func() error
	log    *slog.Logger
	silent bool // the last question had no answer, and that was logged
}

// watchOver asks by listing the namespaces, which are few and are read from the store.
func watchOver(c Config, p *plugged) (*vital, error) {
	instance, err := p.instance(plugins.ServicePlugin, apis.NamespacesService)
	if err != nil {
		return nil, fmt.Errorf("watch over the server: %w", err)
	}
	namespaces, ok := instance.(api.NamespacesClient)
	if !ok {
		return nil, fmt.Errorf("watch over the server: its namespaces are a %T", instance)
	}
	return &vital{pulse: c.Alive, well: c.Well, log: c.Log, list: func(ctx context.Context) error {
		_, err := namespaces.List(ctx, &api.ListNamespacesRequest{})
		return err
	}}, nil
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

// ask returns after askTime, even if the question is never answered.
func (v *vital) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- v.list(ctx) }()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
