package probe

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"resinos/mounts/testenv"
	"resinos/services/spec"
)

var errOver = errors.New("start timeout")

// TestCommandPace: the question is asked again after 100 ms, 200 ms … 1 s, and no oftener.
func TestCommandPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, asked := time.Now(), []time.Duration{}
		run := func(_ context.Context, command []string) error {
			if !reflect.DeepEqual(command, []string{"/bin/ask", "it"}) {
				t.Errorf("runs %q", command)
			}
			asked = append(asked, time.Since(start)/time.Millisecond)
			if len(asked) == 7 {
				return nil
			}
			return errors.New("exit code 1")
		}
		err := Ready(t.Context(), spec.Ready{Command: []string{"/bin/ask", "it"}}, run)
		if want := []time.Duration{0, 100, 300, 700, 1500, 2500, 3500}; err != nil || !reflect.DeepEqual(asked, want) {
			t.Errorf("asked at %d ms, %v, want %d", asked, err, want)
		}
	})
}

// TestReadyEnds: the error is the cause, and says what the last answer was.
func TestReadyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, errOver)
		defer cancel()
		err := Ready(ctx, spec.Ready{Command: []string{"/bin/ask"}},
			func(context.Context, []string) error { return errors.New("exit code 7") })
		if !errors.Is(err, errOver) || !strings.Contains(err.Error(), "exit code 7") {
			t.Errorf("Ready gives %v", err)
		}
	})
}

// TestCommandHangs: a run that never ends by itself is cut short and asked again.
func TestCommandHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, runs := time.Now(), 0
		err := Ready(t.Context(), spec.Ready{Command: []string{"/bin/ask"}},
			func(ctx context.Context, _ []string) error {
				if runs++; runs < 3 {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			})
		if want := 2*spec.DefaultHealthTimeout + 300*time.Millisecond; err != nil || time.Since(start) != want {
			t.Errorf("Ready gives %v after %v, want nil after %v", err, time.Since(start), want)
		}
	})
}

func TestNothingToAsk(t *testing.T) {
	if err := Ready(t.Context(), spec.Ready{}, nil); err != nil {
		t.Error(err)
	}
}

func TestPort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	for network, address := range map[string]string{"tcp": address, "unix": path} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), testenv.Patience(), errOver)
		defer cancel()
		answer := make(chan error, 1)
		go func() { answer <- Ready(ctx, spec.Ready{Port: network + ":" + address}, nil) }()
		testenv.NeverReceive(t, 150*time.Millisecond, network+" is ready before anybody listens", answer)
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := <-answer; err != nil {
			t.Errorf("%s: %v", network, err)
		}
	}
}

func TestParsePort(t *testing.T) {
	for text, want := range map[string]port{
		"tcp:127.0.0.1:80": {"tcp", "127.0.0.1:80"},
		"tcp::80":          {"tcp", "127.0.0.1:80"},
		"tcp:localhost:80": {"tcp", "127.0.0.1:80"},
		"tcp:[::1]:80":     {"tcp", "[::1]:80"},
		"unix:/run/x":      {"unix", "/run/x"},
	} {
		if got, err := parsePort(text); err != nil || got != want {
			t.Errorf("parsePort(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "tcp", "tcp:", "tcp:80", "tcp:example.org:80", "tcp::0", "tcp::http",
		"tcp::65536", "udp::80", "unix:", "unix:x"} {
		if got, err := parsePort(text); err == nil {
			t.Errorf("parsePort(%q) = %v without an error", text, got)
		}
	}
}

func FuzzParsePort(f *testing.F) {
	for _, seed := range []string{"tcp:127.0.0.1:80", "tcp:[::1%lo]:1", "unix:/a", "tcp::", ":"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePort(text)
		if err != nil {
			return
		}
		if again, err := parsePort(p.network + ":" + p.address); err != nil || again != p {
			t.Errorf("parsePort(%q) = %v, and of that %v, %v", text, p, again, err)
		}
	})
}

// TestHealth: what a run of answers leads to, and when.
func TestHealth(t *testing.T) {
	bad := errors.New("exit code 1")
	for name, c := range map[string]struct {
		answers []error
		told    []int
		after   time.Duration // of the verdict
	}{
		"three in a row":    {[]error{bad, bad, bad}, []int{1, 2, 3}, 90 * time.Second},
		"a success between": {[]error{bad, bad, nil, nil, bad, bad, bad}, []int{1, 2, 0, 1, 2, 3}, 210 * time.Second},
		"well for a long day": {append(make([]error, 2880), bad, bad, bad), []int{1, 2, 3},
			24*time.Hour + 90*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, runs, told := time.Now(), 0, []int{}
				run := func(context.Context, []string) error { runs++; return c.answers[runs-1] }
				err := Health(t.Context(), spec.Health{Command: []string{"/bin/true"}}, run,
					func(n int, _ error) { told = append(told, n) })
				if !errors.Is(err, bad) || !strings.Contains(err.Error(), "3 times") || time.Since(start) != c.after ||
					!reflect.DeepEqual(told, c.told) {
					t.Errorf("Health gives %v after %v, told %d; want %v, %d", err, time.Since(start), told, c.after,
						c.told)
				}
			})
		})
	}
}

// TestHealthTimeout: a run that hangs has failed, and the next comes a whole pause later.
func TestHealthTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		h := spec.Health{Command: []string{"/bin/hang"}, Every: time.Minute, Timeout: 5 * time.Second, Retries: 2}
		err := Health(t.Context(), h, func(ctx context.Context, _ []string) error { <-ctx.Done(); return ctx.Err() },
			nil)
		if err == nil || !strings.Contains(err.Error(), "no answer within 5s") || time.Since(start) != 130*time.Second {
			t.Errorf("Health gives %v after %v", err, time.Since(start))
		}
	})
}

// TestHealthEnds: the end of the service is no failure of its check.
func TestHealthEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		run := func(ctx context.Context, _ []string) error { cancel(errOver); return ctx.Err() }
		err := Health(ctx, spec.Health{Command: []string{"/bin/true"}}, run,
			func(n int, err error) { t.Errorf("told %d, %v", n, err) })
		if err != errOver {
			t.Errorf("Health gives %v", err)
		}
	})
}
