package daemon

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	api "github.com/containerd/containerd/api/services/namespaces/v1"
	"google.golang.org/grpc"

	"resinos/services/notify"
	"resinos/services/notify/notifytest"
)

// answers serves at path a containerd that answers, or holds every question while hangs is set and says so on asked.
func answers(t *testing.T, path string, hangs *atomic.Bool, asked chan<- struct{}) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if err := stream.RecvMsg(&api.ListNamespacesRequest{}); err != nil {
			return err
		}
		if hangs.Load() {
			asked <- struct{}{}
			<-stream.Context().Done()
		}
		return stream.SendMsg(&api.ListNamespacesResponse{})
	}))
	go s.Serve(l) // ends by Stop
	t.Cleanup(s.Stop)
}

// TestAliveByAnswers: only a server that answers is alive.
func TestAliveByAnswers(t *testing.T) {
	signs := notifytest.Watch(t, 3*time.Millisecond)
	socket := filepath.Join(t.TempDir(), "s")
	var hangs atomic.Bool
	asked := make(chan struct{})
	answers(t, socket, &hangs, asked)
	v, err := watchOver(Config{Socket: socket, Alive: notify.Watched(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	due := func() {
		for v.left() > 0 {
			<-time.After(v.left()) // sleep: until a sign is due
		}
	}
	got := make(chan struct{})
	go func() { <-signs; close(got) }()
	for alive := false; !alive; {
		due()
		v.beat(t.Context())
		select {
		case <-got:
			alive = true
		default:
		}
	}
	hangs.Store(true)
	due()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	v.beat(ctx)
	if !v.silent || v.pulse.Left() > 0 {
		t.Errorf("a server that does not answer is alive: %v left", v.pulse.Left())
	}
	if v.left() == 0 {
		t.Error("it is asked again without a pause")
	}
	hangs.Store(false)
	if v.beat(t.Context()); v.silent {
		t.Error("the server that answers again is taken for dead")
	}
}
