package vpn

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"resinos/net/keyvalue"
	"resinos/net/openvpn"
)

// An openvpn that lives and does not answer yet is waited for: another one beside it would take its management socket,
// and nobody could end the first one any more. One of an earlier netd may be gone, and is given up.
func TestAwait(t *testing.T) {
	control := filepath.Join(t.TempDir(), controlFile)
	synctest.Test(t, func(t *testing.T) {
		ended, result := make(chan struct{}), make(chan error, 1)
		go func() {
			_, err := await(context.Background(), control, ended)
			result <- err
		}()
		time.Sleep(time.Hour)
		select {
		case err := <-result:
			t.Fatalf("given up while it lives: %v", err)
		default:
		}
		close(ended)
		if err := <-result; err == nil {
			t.Error("no error after its end")
		}
		begin := time.Now()
		if _, err := await(context.Background(), control, nil); err == nil || time.Since(begin) < startLimit {
			t.Errorf("of an earlier netd: %v after %s", err, time.Since(begin))
		}
	})
}

// Nobody waits when netd ends; when only the tunnel is not wanted any more, its end is waited for.
func TestAwaitEnds(t *testing.T) {
	control := filepath.Join(t.TempDir(), controlFile)
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancelCause(context.Background())
		stop(context.Canceled)
		if _, err := await(ctx, control, make(chan struct{})); err == nil {
			t.Error("no error at the end of netd")
		}
		ctx, stop = context.WithCancelCause(context.Background())
		stop(errNotWanted)
		begin, ended := time.Now(), make(chan struct{})
		time.AfterFunc(time.Minute, func() { close(ended) })
		if _, err := await(ctx, control, ended); err == nil || time.Since(begin) < time.Minute {
			t.Errorf("not wanted any more: %v after %s", err, time.Since(begin))
		}
	})
}

// A user name or password with a line end in it is never sent, because it would be a command of its own: the tunnel is
// ended, and its profile says why without what is in it.
func TestLineEndInPassword(t *testing.T) {
	for _, c := range []struct{ user, password, realm string }{
		{"me\nsignal SIGUSR1", "x", "Auth"}, {"me", "horse\r\nkill x", "Auth"}, {"", "horse\nkill x", "Private Key"},
	} {
		var said string
		one := tunnel{log: slog.New(slog.DiscardHandler), tell: func(s State) { said = s.Reason }}
		one.state.Tunnel = openvpn.Tunnel{User: c.user, Password: keyvalue.NewSecret(c.password),
			KeyPassword: keyvalue.NewSecret(c.password)}
		here, there := net.Pipe()
		go func() { // ends with the pipe
			one.message(here, openvpn.ParseMessage(">PASSWORD:Need '"+c.realm+"' username/password"))
			here.Close()
		}()
		got, err := io.ReadAll(there)
		if err != nil || string(got) != "signal SIGTERM\n" {
			t.Errorf("%q: openvpn gets %q, %v", c, got, err)
		}
		if !strings.Contains(said, "has a line end in it") || strings.Contains(said, "horse") {
			t.Errorf("%q: the profile says %q", c, said)
		}
	}
}
