package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
)

func TestShimOf(t *testing.T) {
	const socket = "/run/containerd/containerd.sock"
	for line, want := range map[string]string{
		"/usr/bin/containerd-shim-runc-v2 -namespace resinos -id hello.web -address " + socket: "hello.web",
		"/usr/bin/containerd-shim-runc-v2 -namespace resinos -address " + socket +
			" -id hello.web -bundle /run/x delete": "",
		"/usr/bin/containerd-shim-runc-v2 -namespace resinos -address " + socket +
			" -publish-binary x -id hello.web start": "",
		"/usr/bin/containerd-shim-runc-v2 -namespace resinos -id hello.web -address /run/other.sock": "",
		"/bin/vi containerd-shim-runc-v2 -id hello.web -address " +
			socket: "",
		"/usr/bin/containerd-shim-runc-v2 -namespace resinos -address " + socket +
			" -id": "",
		"": "",
	} {
		if got := shimOf(strings.Split(line, " "), socket); got != want {
			t.Errorf("shimOf(%q) = %q, want %q", line, got, want)
		}
	}
}

// TestChangesAreFinished: the call of a client that has gone is carried to its end if it changes a task, and nothing
// is swept meanwhile; other calls end with their client.
func TestChangesAreFinished(t *testing.T) {
	for method, finished := range map[string]bool{
		"/containerd.services.tasks.v1.Tasks/Create": true, "/containerd.services.tasks.v1.Tasks/Start": true,
		"/containerd.services.tasks.v1.Tasks/Kill": true, "/containerd.services.tasks.v1.Tasks/Delete": true,
		"/containerd.services.tasks.v1.Tasks/Wait": false, "/containerd.services.content.v1.Content/Delete": false,
	} {
		s := &sweeper{poked: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		failure := errors.New("failed")
		_, err := s.intercept(ctx, nil, &grpc.UnaryServerInfo{FullMethod: method},
			func(ctx context.Context, _ any) (any, error) {
				if goes := ctx.Err() == nil; goes != finished {
					t.Errorf("%s goes on without its client: %v", method, goes)
				}
				if end, bounded := ctx.Deadline(); finished && (!bounded || time.Until(end) > taskLimit) {
					t.Errorf("%s has no bound", method)
				}
				if free := s.changing.TryLock(); free == finished {
					t.Errorf("%s: leftovers may be swept meanwhile: %v", method, free)
				} else if free {
					s.changing.Unlock()
				}
				return nil, failure
			})
		if !errors.Is(err, failure) || len(s.poked) == 1 != finished {
			t.Errorf("%s: %v, and leftovers are looked for: %v", method, err, len(s.poked) == 1)
		}
	}
}
