package daemon

import (
	"context"
	"fmt"
	"net"

	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/sys"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc"
)

func eventSocket(c Config) string { return c.Socket + ".ttrpc" }

// serve opens both sockets: that of the API, and that for events of the shims. The channel gets the first error of
// either.
func serve(p *plugged, s *sweeper, c Config) (<-chan error, error) {
	p.api = grpc.NewServer(
		grpc.ChainUnaryInterceptor(unaryNamespace, s.intercept), grpc.ChainStreamInterceptor(streamNamespace),
		grpc.MaxRecvMsgSize(defaults.DefaultMaxRecvMsgSize), grpc.MaxSendMsgSize(defaults.DefaultMaxSendMsgSize))
	err := services(p, func(i interface{ Register(*grpc.Server) error }) error { return i.Register(p.api) })
	if err != nil {
		return nil, fmt.Errorf("register service: %w", err)
	}
	if p.events, err = ttrpc.NewServer(ttrpc.WithServerHandshaker(ttrpc.UnixSocketRequireSameUser())); err != nil {
		return nil, err
	}
	err = services(p, func(i interface{ RegisterTTRPC(*ttrpc.Server) error }) error {
		return i.RegisterTTRPC(p.events)
	})
	if err != nil {
		return nil, fmt.Errorf("register event service: %w", err)
	}
	// the socket for events first: a shim that waits for the engine must find it as soon as the API answers
	events, err := sys.GetLocalListener(eventSocket(c), 0, 0)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", eventSocket(c), err)
	}
	api, err := sys.GetLocalListener(c.Socket, 0, 0)
	if err != nil {
		_ = events.Close() // the error above says more
		return nil, fmt.Errorf("listen on %s: %w", c.Socket, err)
	}
	failed := make(chan error, 2) // both may fail, one is read
	go func() { failed <- p.events.Serve(context.Background(), events) }()
	go func() { failed <- p.api.Serve(net.Listener(api)) }()
	return failed, nil
}

// unaryNamespace passes the namespace of an incoming call to the calls that it causes, as containerd's own server does.
func unaryNamespace(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return handler(pass(ctx), req)
}

func streamNamespace(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, passed{ss})
}

func pass(ctx context.Context) context.Context {
	if ns, ok := namespaces.Namespace(ctx); ok {
		return namespaces.WithNamespace(ctx, ns)
	}
	return ctx
}

// passed is a stream with a context from pass.
type passed struct{ grpc.ServerStream }

// Context returns the context with the namespace for outgoing calls.
func (p passed) Context() context.Context { return pass(p.ServerStream.Context()) }
