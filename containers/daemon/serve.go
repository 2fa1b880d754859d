package daemon

import (
	"context"
	"fmt"
	"net"
	"path"
	"slices"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/sys"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc"
)

func eventSocket(c Config) string { return c.Socket + ".ttrpc" }

// serve opens both sockets: the API, and the one at which the shims report what happened. The
// channel gets the first error of either.
func serve(p *plugged, c Config) (<-chan error, error) {
	p.api = grpc.NewServer(
		grpc.ChainUnaryInterceptor(unaryNamespace, finish), grpc.ChainStreamInterceptor(streamNamespace),
		grpc.MaxRecvMsgSize(defaults.DefaultMaxRecvMsgSize), grpc.MaxSendMsgSize(defaults.DefaultMaxSendMsgSize))
	err := services(p, func(s interface{ Register(*grpc.Server) error }) error { return s.Register(p.api) })
	if err != nil {
		return nil, fmt.Errorf("register service: %w", err)
	}
	if p.events, err = ttrpc.NewServer(ttrpc.WithServerHandshaker(ttrpc.UnixSocketRequireSameUser())); err != nil {
		return nil, err
	}
	err = services(p, func(s interface{ RegisterTTRPC(*ttrpc.Server) error }) error { return s.RegisterTTRPC(p.events) })
	if err != nil {
		return nil, fmt.Errorf("register event service: %w", err)
	}
	// events first: a shim that waits for us must find it when the API says that we are here
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

// unaryNamespace makes the namespace that a call came in with the one that calls made for it
// carry: what containerd's own server does.
func unaryNamespace(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return handler(pass(ctx), req)
}

// taskLimit bounds a change of a task. On a slow card, with the memory full, a shim takes long to start.
const taskLimit = 2 * time.Minute

// finish carries a change of a task to its end when its client has gone. Cut off in the middle it would leave a
// shim that nobody knows, or a bundle that stands in the way of the next start.
func finish(ctx context.Context, req any, call *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	service, method := path.Split(call.FullMethod)
	if service == "/"+tasks.Tasks_ServiceDesc.ServiceName+"/" && slices.Contains([]string{"Create", "Start", "Kill", "Delete"}, method) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), taskLimit)
		defer cancel()
	}
	return handler(ctx, req)
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

// passed is a stream whose context went through pass.
type passed struct{ grpc.ServerStream }

// Context returns the context with the namespace for outgoing calls.
func (p passed) Context() context.Context { return pass(p.ServerStream.Context()) }
